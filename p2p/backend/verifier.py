"""Digests of freshly read chunks: computed on the driving thread while the next reads copy.

Hashing holds the interpreter lock, so a thread of its own would only make the driver wait for it.
The transport copies without the lock (NIXL's worker thread, or the network), so hashing between
two looks at the reads costs nothing as long as it is faster than they are.
"""

from collections import deque
from dataclasses import dataclass

from p2p.backend.actions import ReadId, Verify
from p2p.backend.pool import Pool


@dataclass(frozen=True, slots=True)
class Verdict:
    """Digests of a read's chunks: one tuple over the ranks for each chunk."""

    read_id: ReadId
    roots: tuple[tuple[int, ...], ...]


class Verifier:
    """Jobs in the order of their arrival.

    Args:
        pool: where the chunks lie.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._jobs: deque[Verify] = deque()

    @property
    def has_jobs(self) -> bool:
        """True if `work` has something to do."""
        return bool(self._jobs)

    def submit(self, job: Verify) -> None:
        """Takes a job."""
        self._jobs.append(job)

    def work(self) -> Verdict:
        """Does the oldest job: about 0.05 ms per MiB."""
        job = self._jobs.popleft()
        pairs = zip(job.keys, job.slots, strict=True)
        roots = tuple((self._pool.digest(key, slot),) for key, slot in pairs)
        return Verdict(job.read_id, roots)
