"""One lane: reads large windows piece by piece and computes digests as the pieces arrive.

No threads: `p2p.backend.lanes` gives each lane one. A transport that copies inside the submitting
call is given the next piece only after the digests of the last one, which still lies in the
processor's cache; any other gets all pieces at once. No decisions.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from p2p.backend.actions import Read, ReadId
from p2p.backend.links import Links, ReadEnd
from p2p.backend.pool import PoolMemory
from p2p.backend.trials import Path

_PIECE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Quiesced:
    """A given-up read can no longer touch memory."""

    read_id: ReadId


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The link to a holder went with a fence."""

    instance: str


LaneEvent = ReadEnd | Quiesced | LinkLost


@dataclass(slots=True)
class _Job:
    """One window.

    Attributes:
        action: what was asked for.
        roots: digests so far, by chunk.
        num_submitted: leading chunks that were submitted.
        pieces: ids of the pieces that may still touch memory.
        is_over: its end was told.
    """

    action: Read
    roots: list[tuple[int, ...]]
    num_submitted: int = 0
    pieces: set[ReadId] = field(default_factory=set)
    is_over: bool = False


class Lane:
    """The reads of one thread.

    Args:
        links: of this lane alone.
        pool: where chunks land.
        tell: takes what happened.
        clock: in seconds.
    """

    def __init__(
        self,
        links: Links,
        pool: PoolMemory,
        tell: Callable[[LaneEvent], None],
        clock: Callable[[], float],
    ) -> None:
        self.links = links
        self._pool = pool
        self._tell = tell
        self._clock = clock
        self._piece_ids = itertools.count(1)
        self._jobs: dict[ReadId, _Job] = {}
        self._by_piece: dict[ReadId, tuple[_Job, int]] = {}
        self._piece_chunks = max(1, _PIECE_BYTES // pool.slot_bytes)

    def read(self, action: Read, is_wanted: Callable[[], bool]) -> None:
        """Starts a window, and ends it where the transport copies inside the call.

        Args:
            action: the window.
            is_wanted: false once it was given up; looked at before every piece.
        """
        job = _Job(action, [()] * len(action.local))
        self._jobs[action.read_id] = job
        while job.num_submitted < len(action.local) and not job.is_over:
            if not is_wanted():
                self._end(job, "given up")
                return
            self._submit_piece(job)

    def cancel(self, read_id: ReadId) -> None:
        """Gives a window up; `Quiesced` follows, or its end if that was on its way."""
        job = self._jobs.get(read_id)
        if job is None or job.is_over:
            return
        job.is_over = True
        self._give_up_pieces(job)
        if not job.pieces:
            self._forget(job)

    def poll(self) -> None:
        """Takes what has ended."""
        for end in self.links.poll():
            self._on_piece(end)
        for piece_id in self.links.poll_given_up():
            self._on_piece_quiet(piece_id)
        for instance in self.links.take_lost():
            self._tell(LinkLost(instance))

    def _submit_piece(self, job: _Job) -> None:
        action, start = job.action, job.num_submitted
        stop = min(start + self._piece_chunks, len(action.local))
        job.num_submitted = stop
        piece_id = ReadId(next(self._piece_ids))
        piece = Read(
            read_id=piece_id,
            instance=action.instance,
            keys=action.keys[start:stop],
            local=action.local[start:stop],
            remote=action.remote[start:stop],
        )
        job.pieces.add(piece_id)
        self._by_piece[piece_id] = (job, start)
        end = self.links.submit(piece)
        if end is not None:
            self._on_piece(end)

    def _on_piece(self, end: ReadEnd) -> None:
        job, start = self._by_piece[end.read_id]
        if end.is_quiet:
            del self._by_piece[end.read_id]
            job.pieces.remove(end.read_id)
        if job.is_over:
            if not job.pieces:
                self._forget(job)
            return
        if end.problem:
            self._end(job, end.problem, end.failed)
            return
        action = job.action
        stop = min(start + self._piece_chunks, len(action.keys))  # without keys, nothing is hashed
        for number in range(start, stop):
            digest = self._pool.digest(action.keys[number], action.local[number])
            job.roots[number] = (digest,)
        if not job.pieces and job.num_submitted == len(action.local):
            job.is_over = True
            del self._jobs[action.read_id]
            self._tell(
                ReadEnd(
                    read_id=action.read_id,
                    problem="",
                    is_quiet=True,
                    ended_s=end.ended_s,
                    roots=tuple(job.roots) if action.keys else (),
                )
            )

    def _on_piece_quiet(self, piece_id: ReadId) -> None:
        job, _ = self._by_piece.pop(piece_id)
        job.pieces.remove(piece_id)
        if not job.pieces:
            self._forget(job)

    def _end(self, job: _Job, problem: str, failed: Path | None = None) -> None:
        """A window ends badly: its other pieces are given up."""
        job.is_over = True
        self._give_up_pieces(job)
        is_quiet = not job.pieces
        if is_quiet:
            del self._jobs[job.action.read_id]
        end = ReadEnd(job.action.read_id, problem, is_quiet, self._clock(), failed=failed)
        self._tell(end)

    def _give_up_pieces(self, job: _Job) -> None:
        for piece_id in list(job.pieces):
            self.links.cancel(piece_id)

    def _forget(self, job: _Job) -> None:
        del self._jobs[job.action.read_id]
        self._tell(Quiesced(job.action.read_id))
