"""The reads of one fetch: windows under way, over, given up, in quarantine.

Every linked holder takes the next window of the chunks that it lends, in order, as it gets free:
so a slow holder takes less, and what arrives is a prefix for as long as possible. Once everything
is given out, what comes late is read a second time from another holder, as far as the limit on
extra bytes allows: the first copy that passes verification counts.
No I/O, no clock, no threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2p.backend.actions import CancelRead, Read, ReadId, ShortReason
from p2p.backend.borrow import Borrower, Grant
from p2p.backend.borrowing import Borrowing
from p2p.backend.chunks import ChunkState, WantedChunk
from p2p.backend.fetch_context import FetchContext
from p2p.backend.handshake import PeerState
from p2p.keys import ChunkKey

if TYPE_CHECKING:
    from collections.abc import Iterable

_QUEUE_S = 0.25  # a holder is given so much to do at a time, by its bandwidth
_WINDOW_S = 0.1  # and so much in one read
_LEAST_WINDOW_BYTES = 1 << 20
_LATE_FACTOR = 4  # of the time that a read was expected to take
_LAST_QUARTER = 0.25  # of the budget: what is under way then is late


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
    late_s: float
    is_hedge: bool = False
    is_read_twice: bool = False
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
        self._hedged: set[int] = set()

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
        if self._context.chunks.is_all_given_out:
            return
        linked = [b for b in self._borrowing.lenders if not b.is_lost and self._is_linked(b)]
        lenders = sum(bool(borrower.grants) for borrower in linked)
        submitted = True
        while submitted:
            submitted = False
            for borrower in linked:
                if not borrower.is_lost and self._has_room(borrower, lenders, now_s):
                    submitted |= self._submit_window(borrower, lenders, now_s)
            submitted = submitted and not self._context.chunks.is_all_given_out

    def hedge(self, now_s: float) -> None:
        """Reads late chunks a second time, or asks for a lease under which that can be done."""
        if not self._may_hedge():
            return
        for reading in list(self._readings.values()):
            if not reading.is_under_way or reading.is_hedge or now_s < reading.late_s:
                continue
            room = self._hedges_max() - len(self._hedged)
            late = [p for p in reading.positions if self._is_read_once(p)][:room]
            if late:
                self._hedge(reading, late, now_s)

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
        self._borrowing.lenders.read_over(reading.borrower, reading.grant, len(reading.positions))

    def over(self, reading: Reading, now_s: float, *, is_good: bool) -> None:
        """A read has ended, well or not."""
        reading.is_over = True
        self._note_end(reading, now_s, is_good=is_good)

    def give_up(self, reading: Reading, now_s: float) -> None:
        """Stops waiting for a read; its slots stay in quarantine until it has quiesced."""
        reading.is_given_up = True
        self._note_end(reading, now_s, is_good=False)
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
            self.miss(reading, reading.positions, reason, detail)
            self._borrowing.lenders.leave(reading.borrower, reason, detail)

    def miss(
        self, reading: Reading, positions: Sequence[int], reason: ShortReason, detail: str
    ) -> None:
        """Chunks of a read are of no use: they are wanted again, unless they are read twice."""
        others = [r for r in self._readings.values() if r is not reading and not r.is_given_up]
        elsewhere = {position for other in others for position in other.positions}
        self._context.troubles.note(reading.name, reason, detail, self._context.now_s)
        chunks = self._context.chunks
        chunks.fail([p for p in positions if p not in elsewhere], reading.name, reason, detail)
        for position in elsewhere.intersection(positions):
            chunks.refuse(position, reading.name, reason, detail)

    def stalled(self, now_s: float) -> list[Reading]:
        """Returns the reads that are under way for too long."""
        return [r for r in self._readings.values() if r.is_under_way and now_s >= self._stall_s(r)]

    def deadlines_s(self) -> list[float]:
        """Returns when reads stall or their leases want renewal."""
        times: list[float] = []
        for reading in self._readings.values():
            if reading.is_under_way:
                times.append(self._stall_s(reading))
                if self._awaits_lateness(reading):
                    times.append(reading.late_s)
                if not self._context.is_delivered and reading.grant.is_open:
                    asked_s = reading.grant.renewal_asked_s
                    patience_s = self._context.ask_timeout_s
                    times.append(
                        reading.grant.renew_at_s if asked_s is None else asked_s + patience_s
                    )
        return times

    def _stall_s(self, reading: Reading) -> float:
        """Returns when a read is under way for too long: nothing has come from its holder."""
        since_s = max(reading.submitted_s, reading.borrower.heard_s)
        return since_s + self._context.stall_s

    def _has_room(self, borrower: Borrower, lenders: int, now_s: float) -> bool:
        """Returns whether a holder is given another window.

        What a slow link was given is stuck there: it gets what it brings in a moment.
        """
        limits, desk = self._context.limits, self._context.desk
        reads_max = limits.reads_per_holder if lenders < 2 else limits.reads_if_shared
        if borrower.num_reading >= reads_max:
            return False
        if not borrower.num_reading:
            return True  # whatever others read from it: only the end of an own read wakes us
        standing = desk.book.speeds.standing(borrower.holder.instance, now_s)
        if standing.bytes_per_s is None:
            return borrower.num_reading < limits.reads_if_unknown
        return standing.in_flight < standing.bytes_per_s * _QUEUE_S

    def _submit_window(self, borrower: Borrower, lenders: int, now_s: float) -> bool:
        window = self._next_window(borrower, self._chunks_max(borrower, lenders, now_s), now_s)
        if window is None:
            return False
        grant, chunks = window
        core = self._context.desk.instance
        slots = core.acquire_slots(len(chunks), self._context.evict_before)
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
    ) -> Reading:
        self._context.chunks.read(positions)
        desk = self._context.desk
        read_id = desk.next_read()
        keys = tuple(self._context.keys[position] for position in positions)
        name = borrower.holder.instance
        desk.book.speeds.started(name, len(slots) * desk.instance.chunk_bytes, now_s)
        late_s = self._late_s(name, now_s)
        reading = Reading(read_id, positions, keys, slots, borrower, grant, now_s, late_s)
        self._readings[read_id] = reading
        grant.num_reading += 1
        borrower.read_started(now_s)
        remote = tuple(grant.remote_by_position[position] for position in positions)
        one_in = self._context.limits.verify_one_in
        reading.is_verified = one_in > 0 and read_id % one_in == 0
        named = keys if reading.is_verified else ()
        desk.emit(Read(read_id, name, named, slots, remote))
        return reading

    def _note_end(self, reading: Reading, now_s: float, *, is_good: bool) -> None:
        reading.borrower.read_ended(now_s)
        if is_good:
            reading.borrower.heard_s = now_s
        desk = self._context.desk
        num_bytes = len(reading.slots) * desk.instance.chunk_bytes
        desk.book.speeds.ended(reading.name, num_bytes, now_s, is_good=is_good)

    def _late_s(self, instance: str, now_s: float) -> float:
        """Returns when a read that starts now is late, by what is under way before it."""
        context = self._context
        expected_s = context.desk.book.speeds.expected_s(instance, now_s)
        patience_s = context.stall_s / 2
        if expected_s is not None:
            patience_s = min(patience_s, max(_LATE_FACTOR * expected_s, context.limits.late_s))
        last_chance_s = context.deadline_s - context.budget_s * _LAST_QUARTER
        return min(now_s + patience_s, max(last_chance_s, now_s + context.limits.late_s))

    def _hedges_max(self) -> int:
        """Returns how many chunks of the fetch may be read twice."""
        return int(len(self._context.keys) * self._context.limits.hedge_share)

    def _may_hedge(self) -> bool:
        is_over = self._context.is_delivered or not self._readings
        has_room = len(self._hedged) < self._hedges_max()
        return not is_over and has_room and self._context.chunks.is_all_given_out

    def _is_read_once(self, position: int) -> bool:
        is_reading = self._context.chunks[position].state is ChunkState.READING
        return is_reading and position not in self._hedged

    def _awaits_lateness(self, reading: Reading) -> bool:
        return not reading.is_hedge and not reading.is_read_twice and self._may_hedge()

    def _hedge(self, reading: Reading, late: list[int], now_s: float) -> None:
        reading.is_read_twice = True
        others = [b for b in self._borrowing.lenders if b is not reading.borrower]
        if any(self._hedge_at(borrower, late, now_s) for borrower in others):
            return
        if not self._borrowing.ask_another(reading.borrower, tuple(late), now_s):
            self._hedge_at(reading.borrower, late, now_s)  # over another connection

    def _hedge_at(self, borrower: Borrower, late: list[int], now_s: float) -> bool:
        """Starts the second read of late chunks at a holder; false if that cannot be."""
        if borrower.is_lost or not self._is_linked(borrower):
            return False
        grant = borrower.grant_of(late[0], now_s)
        if grant is None or borrower.num_reading >= self._context.limits.reads_per_holder:
            return False
        core = self._context.desk.instance
        covered = [position for position in late if position in grant.remote_by_position]
        slots = core.acquire_slots(len(covered), self._context.evict_before)
        if not slots:
            return False
        positions = tuple(covered[: len(slots)])
        self._start(positions, tuple(slots), borrower, grant, now_s).is_hedge = True
        self._hedged.update(positions)
        core.counters["chunks_hedged"] += len(positions)
        return True

    def _chunks_max(self, borrower: Borrower, lenders: int, now_s: float) -> int:
        """Returns the size of the next window: what a slow link brings in a moment.

        Where several share the work, the last windows are small.
        """
        whole = self._context.window_chunks
        if whole == 1:
            return whole
        desk = self._context.desk
        rate = desk.book.speeds.standing(borrower.holder.instance, now_s).bytes_per_s
        spreading = self._borrowing.fellows.spreading
        if rate is not None or spreading.is_long:
            num_bytes = max((rate or 0.0) * _WINDOW_S, _LEAST_WINDOW_BYTES)
            whole = min(whole, max(1, int(num_bytes / desk.instance.chunk_bytes)))
        if lenders < 2:
            return whole
        left = sum(1 for _ in self._context.chunks.wanted())
        return max(1, min(whole, left // (4 * lenders)))

    def _next_window(
        self, borrower: Borrower, chunks_max: int, now_s: float
    ) -> tuple[Grant, Sequence[WantedChunk]] | None:
        name = borrower.holder.instance
        spreading = self._borrowing.fellows.spreading
        source: Iterable[WantedChunk] = self._context.chunks.wanted()
        if spreading.is_on(now_s):
            source = spreading.ordered(spreading.next_wanted())
        grant: Grant | None = None
        chunks: list[WantedChunk] = []
        for chunk in source:
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
