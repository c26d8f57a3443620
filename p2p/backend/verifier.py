"""Digests of freshly read chunks, computed beside the transfer of the next ones."""

import os
import queue
import threading
from collections import deque
from dataclasses import dataclass

from p2p.backend.actions import ReadId, Verify
from p2p.backend.pool import Pool

_INLINE_BYTES = 512 << 10


@dataclass(frozen=True, slots=True)
class Verdict:
    """Digests of a read's chunks: one tuple over the ranks for each chunk."""

    read_id: ReadId
    roots: tuple[tuple[int, ...], ...]


class Verifier:
    """Computes digests, small ones at once and large ones on a thread.

    Hashing holds the interpreter lock and copying does not, so the two overlap as long as a read
    takes longer to copy than to hash, which it does four times.

    Args:
        pool: where the chunks lie.
        wake_fd: an eventfd that is written when a verdict of the thread is there.
    """

    def __init__(self, pool: Pool, wake_fd: int) -> None:
        self._pool = pool
        self._wake_fd = wake_fd
        self._jobs: queue.SimpleQueue[Verify | None] = queue.SimpleQueue()
        self._verdicts: deque[Verdict] = deque()
        self._thread = threading.Thread(target=self._run, name="p2p-verify", daemon=True)
        self._thread.start()

    def submit(self, job: Verify) -> None:
        """Computes the digests of small chunks now, and those of large ones on the thread."""
        if len(job.slots) * self._pool.slot_bytes <= _INLINE_BYTES:
            self._verdicts.append(self._judge(job))
        else:
            self._jobs.put(job)

    def take(self) -> list[Verdict]:
        """Returns the verdicts since the last call."""
        verdicts: list[Verdict] = []
        while self._verdicts:
            verdicts.append(self._verdicts.popleft())
        return verdicts

    def close(self) -> None:
        """Ends the thread after the jobs that it has."""
        self._jobs.put(None)
        self._thread.join()

    def _judge(self, job: Verify) -> Verdict:
        pairs = zip(job.keys, job.slots, strict=True)
        return Verdict(job.read_id, tuple((self._pool.digest(key, slot),) for key, slot in pairs))

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._verdicts.append(self._judge(job))
            os.eventfd_write(self._wake_fd, 1)
