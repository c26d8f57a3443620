"""The reads of one fetch: windows under way, over, given up, in quarantine.

Every linked holder takes the next window of the chunks that it lends, in order, as it gets free:
so a slow holder takes less, and what arrives is a prefix for as long as possible.
No I/O, no clock, no threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from p2p.backend.actions import CancelRead, Read, ReadId, ShortReason
from p2p.backend.borrow import Borrower, Grant
from p2p.backend.borrowing import Borrowing
from p2p.backend.chunks import ChunkState, WantedChunk
from p2p.backend.fetch_context import FetchContext
from p2p.backend.handshake import PeerState
from p2p.keys import ChunkKey


@dataclass(slots=True)
class Reading:
    """One read under way, or over and not verified, or given up and not quiesced."""

    read_id: ReadId
    positions: tuple[int, ...]
    keys: tuple[ChunkKey, ...]
    slots: tuple[int, ...]
    borrower: Borrower
    grant: Grant
    submitted_s: float
    is_over: bool = False
    is_given_up: bool = False
    is_verified: bool = True

    @property
    def name(self) -> str:
        """The holder's instance id."""
        return self.borrower.holder.instance

    @property
    def is_under_way(self) -> bool:
        """True while the outcome is awaited."""
        return not self.is_over and not self.is_given_up


class Readings:
    """All reads of one fetch.

    Args:
        context: the request.
        borrowing: its leases.
    """

    def __init__(self, context: FetchContext, borrowing: Borrowing) -> None:
        self._context = context
        self._borrowing = borrowing
        self._readings: dict[ReadId, Reading] = {}

    def __len__(self) -> int:
        return len(self._readings)

    def __contains__(self, read_id: ReadId) -> bool:
        return read_id in self._readings

    def __getitem__(self, read_id: ReadId) -> Reading:
        return self._readings[read_id]

    def submit(self, now_s: float) -> None:
        """Gives every linked holder with room the next window, in turns.

        Where several share the work, little is given out at a time: what a holder was given it
        keeps, even if it becomes slow.
        """
        linked = [b for b in self._borrowing.borrowers if not b.is_lost and self._is_linked(b)]
        lenders = sum(bool(borrower.grants) for borrower in linked)
        limits = self._context.limits
        reads_max = limits.reads_per_holder if lenders < 2 else limits.reads_if_shared
        submitted = True
        while submitted:
            submitted = False
            for borrower in linked:
                if borrower.num_reading < reads_max and not borrower.is_lost:
                    submitted |= self._submit_window(borrower, lenders, now_s)

    def take(self, read_id: ReadId) -> Reading:
        """Removes a read whose slots go elsewhere now."""
        return self._readings.pop(read_id)

    def forget(self, read_id: ReadId) -> None:
        """A read can no longer touch memory, and nobody wants its bytes: frees its slots."""
        reading = self._readings.pop(read_id, None)
        if reading is None:
            return
        for slot in reading.slots:
            self._context.desk.instance.slots.release(slot)
        self._borrowing.read_over(reading.borrower, reading.grant, len(reading.positions))

    def give_up(self, reading: Reading, now_s: float) -> None:
        """Stops waiting for a read; its slots stay in quarantine until it has quiesced."""
        reading.is_given_up = True
        reading.borrower.read_ended(now_s)
        core = self._context.desk.instance
        core.counters["reads_given_up"] += 1
        for slot in reading.slots:
            core.slots.quarantine(slot)
        self._context.desk.emit(CancelRead(reading.read_id))

    def give_up_all(self, now_s: float) -> None:
        """Stops waiting for every read."""
        for reading in self._readings.values():
            if reading.is_under_way:
                self.give_up(reading, now_s)

    def fail(self, reading: Reading, reason: ShortReason, detail: str) -> None:
        """A read brought nothing: its chunks are wanted from others, its holder is left."""
        if not self._context.is_delivered:
            self._context.chunks.fail(reading.positions, reading.name, reason, detail)
            self._borrowing.leave(reading.borrower, reason, detail)

    def stalled(self, now_s: float) -> list[Reading]:
        """Returns the reads that are under way for too long."""
        limit_s = now_s - self._context.stall_s
        return [r for r in self._readings.values() if r.is_under_way and r.submitted_s <= limit_s]

    def deadlines_s(self) -> list[float]:
        """Returns when reads stall or their leases want renewal."""
        times: list[float] = []
        for reading in self._readings.values():
            if reading.is_under_way:
                times.append(reading.submitted_s + self._context.stall_s)
                if not self._context.is_delivered and reading.grant.is_open:
                    asked_s = reading.grant.renewal_asked_s
                    patience_s = self._context.ask_timeout_s
                    times.append(
                        reading.grant.renew_at_s if asked_s is None else asked_s + patience_s
                    )
        return times

    def _submit_window(self, borrower: Borrower, lenders: int, now_s: float) -> bool:
        window = self._next_window(borrower, self._chunks_max(lenders), now_s)
        if window is None:
            return False
        grant, chunks = window
        core = self._context.desk.instance
        slots = core.acquire_slots(len(chunks))
        if not slots:
            detail = f"no slot of {core.slots.num_slots} can be freed"
            self._context.chunks.lose(chunks[0].position, ShortReason.POOL_FULL, detail)
            return False
        positions = tuple(chunk.position for chunk in chunks[: len(slots)])
        self._start(positions, tuple(slots), borrower, grant, now_s)
        return True

    def _start(
        self,
        positions: tuple[int, ...],
        slots: tuple[int, ...],
        borrower: Borrower,
        grant: Grant,
        now_s: float,
    ) -> None:
        self._context.chunks.move(positions, ChunkState.READING)
        read_id = self._context.desk.next_read()
        keys = tuple(self._context.keys[position] for position in positions)
        reading = Reading(read_id, positions, keys, slots, borrower, grant, now_s)
        self._readings[read_id] = reading
        grant.num_reading += 1
        borrower.read_started(now_s)
        remote = tuple(grant.remote_by_position[position] for position in positions)
        one_in = self._context.limits.verify_one_in
        reading.is_verified = one_in > 0 and read_id % one_in == 0
        named = keys if reading.is_verified else ()
        self._context.desk.emit(Read(read_id, reading.name, named, slots, remote))

    def _chunks_max(self, lenders: int) -> int:
        """Returns the size of the next window: where several share the work, the last are small."""
        whole = self._context.window_chunks
        if lenders < 2:
            return whole
        left = sum(1 for _ in self._context.chunks.wanted())
        return max(1, min(whole, left // (4 * lenders)))

    def _next_window(
        self, borrower: Borrower, chunks_max: int, now_s: float
    ) -> tuple[Grant, Sequence[WantedChunk]] | None:
        name = borrower.holder.instance
        grant: Grant | None = None
        chunks: list[WantedChunk] = []
        for chunk in self._context.chunks.wanted():
            if name not in chunk.holders:
                continue
            covering = borrower.grant_of(chunk.position, now_s)
            if covering is None or (grant is not None and covering is not grant):
                continue
            grant = covering
            chunks.append(chunk)
            if len(chunks) == chunks_max:
                break
        return (grant, chunks) if grant is not None else None

    def _is_linked(self, borrower: Borrower) -> bool:
        peer = self._context.desk.book.get(borrower.holder.instance)
        return (
            peer is not None
            and peer.state is PeerState.LINKED
            and peer.holder.incarnation == borrower.holder.incarnation
        )
