"""One fetch from question to verified prefix, as a state machine.

Locate, plan, lease at several holders, read in windows that the holders take as they get free,
verify, commit; what fails goes to its next holder inside the same fetch; at the deadline the
longest verified prefix is delivered. A given-up read keeps its slots in quarantine, and its lease,
until it has quiesced. No I/O, no clock, no threads: the owner serialises the calls and carries out
the actions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from p2p.backend.actions import (
    Action,
    AskController,
    CancelRead,
    FetchOutcome,
    Phase,
    Read,
    ReadId,
    ShortReason,
    SourceTally,
    Tag,
    TellPeer,
    Verify,
)
from p2p.backend.borrow import Borrower, Grant
from p2p.backend.chunks import ChunkState, ChunkTable, WantedChunk
from p2p.backend.handshake import PeerBook, PeerState
from p2p.backend.instance import InstanceCore, Placement
from p2p.backend.plan import Place, PlanLimits, plan_runs
from p2p.keys import ChunkKey, join_keys
from p2p.wire.messages import (
    Holder,
    LeaseBusy,
    LeaseGranted,
    LeaseRelease,
    LeaseRenew,
    LeaseRenewed,
    LeaseRequest,
    Locate,
    Located,
    Message,
    Refusal,
    ReportMismatch,
)


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Timing and sizes of a fetch.

    Attributes:
        window_bytes: largest read that is submitted at once.
        num_windows: a fetch is cut into about so many windows at least.
        reads_per_holder: reads under way at one holder.
        ask_timeout_s: a holder that does not answer within this is left, or within a quarter of
            the budget if that is shorter.
        stall_s: a read that takes longer is given up, or longer than a third of the budget.
        lease_slack_s: leases are asked for the budget and this.
        plan: how runs are spread.
    """

    window_bytes: int = 8 << 20
    num_windows: int = 16
    reads_per_holder: int = 2
    ask_timeout_s: float = 1.0
    stall_s: float = 5.0
    lease_slack_s: float = 0.5
    plan: PlanLimits = field(default_factory=PlanLimits)


@dataclass(slots=True)
class _Reading:
    """One read under way, or over and not verified, or given up and not quiesced."""

    read_id: ReadId
    positions: tuple[int, ...]
    slots: tuple[int, ...]
    borrower: Borrower
    grant: Grant
    submitted_s: float
    is_over: bool = False
    is_given_up: bool = False

    @property
    def name(self) -> str:
        """The holder's instance id."""
        return self.borrower.holder.instance

    @property
    def is_under_way(self) -> bool:
        """True while the outcome is awaited."""
        return not self.is_over and not self.is_given_up


class Desk(Protocol):
    """What a fetch needs of its surroundings."""

    @property
    def instance(self) -> InstanceCore:
        """The instance whose pool is filled."""
        ...

    @property
    def book(self) -> PeerBook:
        """How we stand with holders."""
        ...

    def emit(self, action: Action) -> None:
        """Asks the shell for something."""
        ...

    def ask(self, fetch: "Fetch", holder: Holder, message: Message, now_s: float) -> Tag:
        """Sends a request to a holder, after a hello where that is due."""
        ...

    def next_read(self, fetch: "Fetch") -> ReadId:
        """Returns a fresh read id whose outcome comes back to the fetch."""
        ...

    def note_phase(self, fetch: "Fetch") -> None:
        """The fetch reached a phase, which the shell may want to know."""
        ...


class Fetch:
    """One fetch.

    Args:
        desk: surroundings.
        keys: chunks wanted, in order.
        tenant: who asks.
        now_s: the start.
        budget_s: time until the outcome must be there.
        limits: timing and sizes.
    """

    def __init__(
        self,
        desk: Desk,
        keys: Sequence[ChunkKey],
        tenant: str,
        now_s: float,
        budget_s: float,
        limits: FetchLimits,
    ) -> None:
        self.keys = tuple(keys)
        self.tenant = tenant
        self.started_s = now_s
        self.deadline_s = now_s + budget_s
        self.outcome: FetchOutcome | None = None
        self.num_arrived = 0
        self._desk = desk
        self._limits = limits
        self._budget_s = budget_s
        self._chunks = ChunkTable(self.keys)
        self._borrowers: dict[str, Borrower] = {}
        self._readings: dict[ReadId, _Reading] = {}
        self._asked: dict[Tag, str] = {}
        self._renewals: dict[Tag, tuple[Grant, float]] = {}
        self._phases: list[Phase] = []
        self._phases_s: dict[str, float] = {}
        self._num_local = 0
        self._is_locating = False
        window_bytes = min(limits.window_bytes, self.num_bytes // limits.num_windows)
        self._window_chunks = max(1, window_bytes // desk.instance.chunk_bytes)

    @property
    def num_bytes(self) -> int:
        """Bytes of all chunks that were asked for."""
        return len(self.keys) * self._desk.instance.chunk_bytes

    @property
    def is_finished(self) -> bool:
        """True once nothing of this fetch is under way or in quarantine any more."""
        return self.outcome is not None and not self._readings

    # ------------------------------------------------------------------ what happens

    def start(self, tag: Tag) -> None:
        """Takes what is here already and asks the directory for the rest, under ``tag``."""
        index = self._desk.instance.index
        for chunk in self._chunks:
            entry = index.get(chunk.key)
            if entry is not None and entry.is_readable_by(self.tenant):
                index.pin(entry)
                index.touch(entry)
                self._chunks.keep(chunk.position, entry)
        self._num_local = self._chunks.first
        if self._num_local == len(self._chunks):
            self._deliver(self.started_s)
            return
        blob, key_bytes = join_keys(self.keys[self._num_local :])
        identity = self._desk.instance.identity
        question = Locate(
            namespace=identity.namespace.id,
            keys=blob,
            key_bytes=key_bytes,
            instance=identity.instance,
            tenant=self.tenant,
        )
        self._is_locating = True
        self._desk.emit(AskController(tag, question))

    def on_located(self, answer: Message | None, now_s: float) -> None:
        """Takes the directory's answer; None if there was none in time."""
        if not self._is_locating:
            return
        self._is_locating = False
        self._mark(Phase.AFTER_LOCATE, now_s)
        if isinstance(answer, Located):
            self._plan(answer, now_s)
        else:
            self._chunks.lose_rest(ShortReason.CONTROLLER_SILENT, "no answer to locate")
        self._step(now_s)

    def on_answer(self, tag: Tag, answer: Message | None, now_s: float) -> None:
        """Takes a holder's answer to a lease request or renewal; None if it is unreachable."""
        renewal = self._renewals.pop(tag, None)
        if renewal is not None:
            _renewed(*renewal, answer)
            return
        instance = self._asked.pop(tag, None)
        if instance is None:
            return
        borrower = self._borrowers[instance]
        positions, asked_s = borrower.asked_positions, borrower.asked_s
        borrower.asked_positions = ()
        match answer:
            case LeaseGranted():
                self._on_granted(borrower, positions, asked_s, answer)
                self._mark(Phase.AFTER_LEASE, now_s)
            case LeaseBusy():
                self._leave(borrower, ShortReason.PEER_BUSY, f"{instance} is busy")
            case Refusal():
                detail = f"{instance} refused: {answer.code.value} {answer.field}"
                self._leave(borrower, ShortReason.PEER_REFUSED, detail.rstrip())
            case _:
                self._leave(borrower, ShortReason.PEER_SILENT, f"{instance} did not answer")
        self._step(now_s)

    def on_peer(self, instance: str, now_s: float) -> None:
        """The standing of a holder changed: linked, refused or down."""
        borrower = self._borrowers.get(instance)
        peer = self._desk.book.get(instance)
        if borrower is None or peer is None or self.outcome is not None:
            return
        if peer.state is PeerState.REFUSED:
            self._leave(borrower, ShortReason.PEER_REFUSED, f"{instance}: {peer.reason}")
        elif peer.state is PeerState.DOWN:
            self._leave(borrower, ShortReason.LINK_FAILED, f"{instance}: {peer.reason}")
        self._step(now_s)

    def on_read_done(self, read_id: ReadId, now_s: float) -> None:
        """All bytes of a read are there; ``now_s`` was taken after that was seen."""
        reading = self._readings[read_id]
        if reading.is_given_up:
            self._forget(read_id)
            return
        reading.is_over = True
        reading.borrower.read_ended(now_s)
        if now_s > reading.grant.use_until_s:
            detail = f"{reading.name}: the read ended after its lease"
            self._forget(read_id)
            self._chunks.fail(reading.positions, reading.name, ShortReason.LEASE_LOST, detail)
        else:
            self._chunks.move(reading.positions, ChunkState.ARRIVED)
            self.num_arrived += len(reading.positions)
            self._mark(Phase.MID_TRANSFER, now_s)
            self._mark(Phase.BEFORE_VERIFY, now_s)
            keys = tuple(self.keys[position] for position in reading.positions)
            self._desk.emit(Verify(read_id, keys, reading.slots))
        self._step(now_s)

    def on_read_failed(self, read_id: ReadId, reason: str, now_s: float) -> None:
        """A read ended badly and has quiesced."""
        reading = self._readings[read_id]
        if not reading.is_given_up:
            reading.borrower.read_ended(now_s)
            self._desk.book.down(reading.name, reason, now_s)
            self._fail(reading, ShortReason.READ_FAILED, f"{reading.name}: {reason}")
        self._forget(read_id)
        self._step(now_s)

    def on_read_broken(self, read_id: ReadId, reason: str, now_s: float) -> None:
        """A read ended badly and may still touch memory: quarantine until `on_quiesced`."""
        reading = self._readings[read_id]
        if reading.is_given_up:
            return
        self._give_up(reading, now_s)
        self._desk.book.down(reading.name, reason, now_s)
        self._fail(reading, ShortReason.READ_FAILED, f"{reading.name}: {reason}")
        self._step(now_s)

    def on_quiesced(self, read_id: ReadId) -> None:
        """A given-up read can no longer touch memory: its slots leave quarantine."""
        self._forget(read_id)

    def on_verified(self, read_id: ReadId, roots: Sequence[tuple[int, ...]], now_s: float) -> None:
        """Takes the digests of a read's chunks, one tuple over the ranks for each."""
        reading = self._readings.pop(read_id)
        failed: list[int] = []
        for position, slot, found in zip(reading.positions, reading.slots, roots, strict=True):
            if found == reading.grant.roots_by_position[position]:
                self._commit(position, slot, found, reading.borrower.tally)
            else:
                self._reject(position, slot, reading)
                failed.append(position)
        self._grant_used(reading.borrower, reading.grant)
        self._mark(Phase.AFTER_COMMIT, now_s)
        if failed and self.outcome is None:
            detail = f"{reading.name} delivered other bytes than it had stored"
            self._chunks.fail(failed, reading.name, ShortReason.DIGEST_MISMATCH, detail)
        self._step(now_s)

    def on_time(self, now_s: float) -> None:
        """Time alone: unanswered requests, stalled reads, renewals, the deadline."""
        self._give_up_stalled(now_s)
        if self.outcome is not None:
            return
        if now_s >= self.deadline_s:
            self._stop(ShortReason.BUDGET_SPENT, f"budget of {self._budget_s:g} s", now_s)
            return
        if self._is_locating and now_s >= self.started_s + self._ask_timeout_s:
            self.on_located(None, now_s)
            return
        for tag, instance in list(self._asked.items()):
            if now_s >= self._borrowers[instance].asked_s + self._ask_timeout_s:
                del self._asked[tag]
                self._borrowers[instance].asked_positions = ()
                self._desk.book.down(instance, "no answer to a lease request", now_s)
                detail = f"{instance} did not answer"
                self._leave(self._borrowers[instance], ShortReason.PEER_SILENT, detail)
        self._renew(now_s)
        self._step(now_s)

    def next_deadline_s(self) -> float | None:
        """Returns when `on_time` has something to do; None if the fetch only waits to quiesce."""
        times: list[float] = []
        if self.outcome is None:
            asked_s = [self._borrowers[name].asked_s for name in self._asked.values()]
            asked_s += [self.started_s] if self._is_locating else []
            times = [self.deadline_s, *(at_s + self._ask_timeout_s for at_s in asked_s)]
        for reading in self._readings.values():
            if reading.is_under_way:
                times.append(reading.submitted_s + self._stall_s)
                if self.outcome is None and reading.grant.renewal_asked_s is None:
                    times.append(reading.grant.renew_at_s)
        return min(times, default=None)

    def close(self, now_s: float) -> None:
        """Ends the fetch now, with what is verified."""
        if self.outcome is None:
            self._stop(ShortReason.CLOSED, "the backend is closing", now_s)

    def waits_for(self, tag: Tag) -> bool:
        """True if the answer to a request can still help."""
        return self.outcome is None and (tag in self._asked or tag in self._renewals)

    def holder_of(self, read_id: ReadId) -> str:
        """Returns the instance that a read under way is from."""
        return self._readings[read_id].name

    def is_reading(self, read_id: ReadId) -> bool:
        """True if a read is under way, or over and not verified, or in quarantine."""
        return read_id in self._readings

    def take_phases(self) -> list[Phase]:
        """Returns the phases reached since the last call, in order."""
        phases, self._phases = self._phases, []
        return phases

    # ------------------------------------------------------------------ planning and leasing

    def _plan(self, located: Located, now_s: float) -> None:
        core, book = self._desk.instance, self._desk.book
        identity = core.identity
        runs = plan_runs(
            located,
            self._num_local,
            Place(identity.instance, identity.host, identity.rack),
            core.chunk_bytes,
            lambda holder: book.is_usable(holder, now_s),
            self._limits.plan,
        )
        for run in runs:
            for holder in run.holders:
                name = holder.instance
                self._borrowers.setdefault(name, Borrower(holder, SourceTally(name)))
            for position in range(run.start, run.start + run.count):
                chunk = self._chunks[position]
                chunk.holders = [holder.instance for holder in run.holders]
                chunk.width = run.width
        for chunk in list(self._chunks.wanted()):
            if not chunk.holders:
                reason, detail = ShortReason.NO_HOLDER, "no holder is known or usable"
                if located.partial:
                    reason, detail = ShortReason.DIRECTORY_PARTIAL, "the directory is recovering"
                self._chunks.lose(chunk.position, reason, detail)

    def _step(self, now_s: float) -> None:
        """Does whatever can be done now."""
        if self.outcome is not None:
            return
        self._ask_leases(now_s)
        self._submit_reads(now_s)
        if self._chunks.first == self._chunks.end:
            self._deliver(now_s)

    def _ask_leases(self, now_s: float) -> None:
        wanted = list(self._chunks.wanted())
        for name, borrower in self._borrowers.items():
            if borrower.is_lost or borrower.asked_positions:
                continue
            positions = tuple(
                chunk.position
                for chunk in wanted
                if name in chunk.asked_holders and borrower.grant_of(chunk.position, now_s) is None
            )
            if positions:
                borrower.asked_positions = positions
                borrower.asked_s = now_s
                self._asked[self._ask_lease(borrower, positions, now_s)] = name

    def _ask_lease(self, borrower: Borrower, positions: tuple[int, ...], now_s: float) -> Tag:
        identity = self._desk.instance.identity
        blob, key_bytes = join_keys(self.keys[position] for position in positions)
        left_s = max(0.0, self.deadline_s - now_s)
        request = LeaseRequest(
            instance=identity.instance,
            incarnation=identity.incarnation,
            holder_incarnation=borrower.holder.incarnation,
            namespace=identity.namespace.id,
            keys=blob,
            key_bytes=key_bytes,
            ttl_ms=int(1000 * min(left_s + self._limits.lease_slack_s, 3600.0)),
            tenant=self.tenant,
        )
        return self._desk.ask(self, borrower.holder, request, now_s)

    def _on_granted(
        self,
        borrower: Borrower,
        positions: tuple[int, ...],
        asked_s: float,
        answer: LeaseGranted,
    ) -> None:
        if not _is_consistent(answer, len(positions)):
            name = borrower.holder.instance
            self._leave(borrower, ShortReason.PEER_REFUSED, f"{name} granted a malformed lease")
            return
        if answer.slots:
            grant = borrower.take(positions, asked_s, answer)
            if self.outcome is not None:
                self._release(borrower, grant)
        if len(answer.slots) < len(positions):
            gone = positions[len(answer.slots)]
            detail = f"{borrower.holder.instance} no longer has chunk {gone}"
            name = borrower.holder.instance
            self._chunks.fail((gone,), name, ShortReason.EVICTED, detail)

    def _renew(self, now_s: float) -> None:
        for borrower in self._borrowers.values():
            for grant in borrower.grants:
                if not grant.is_renewable(now_s):
                    continue
                identity = self._desk.instance.identity
                left_s = max(0.0, self.deadline_s - now_s)
                request = LeaseRenew(
                    instance=identity.instance,
                    incarnation=identity.incarnation,
                    token=grant.token,
                    ttl_ms=int(1000 * (left_s + self._limits.lease_slack_s)),
                )
                grant.renewal_asked_s = now_s
                tag = self._desk.ask(self, borrower.holder, request, now_s)
                self._renewals[tag] = (grant, now_s)

    # ------------------------------------------------------------------ reading

    def _submit_reads(self, now_s: float) -> None:
        """Gives every linked holder with room the next window, in turns, in chunk order."""
        submitted = True
        while submitted:
            submitted = False
            for borrower in self._borrowers.values():
                room = borrower.num_reading < self._limits.reads_per_holder
                if room and not borrower.is_lost and self._is_linked(borrower):
                    submitted |= self._submit_read(borrower, now_s)

    def _submit_read(self, borrower: Borrower, now_s: float) -> bool:
        window = self._next_window(borrower, now_s)
        if window is None:
            return False
        grant, chunks = window
        slots = self._desk.instance.acquire_slots(len(chunks))
        if not slots:
            detail = f"no slot of {self._desk.instance.slots.num_slots} can be freed"
            self._chunks.lose(chunks[0].position, ShortReason.POOL_FULL, detail)
            return False
        positions = tuple(chunk.position for chunk in chunks[: len(slots)])
        self._chunks.move(positions, ChunkState.READING)
        read_id = self._desk.next_read(self)
        reading = _Reading(read_id, positions, tuple(slots), borrower, grant, now_s)
        self._readings[read_id] = reading
        grant.num_reading += 1
        borrower.read_started(now_s)
        remote = tuple(grant.remote_by_position[position] for position in positions)
        self._desk.emit(Read(read_id, reading.name, reading.slots, remote))
        return True

    def _next_window(
        self, borrower: Borrower, now_s: float
    ) -> tuple[Grant, list[WantedChunk]] | None:
        name = borrower.holder.instance
        grant: Grant | None = None
        chunks: list[WantedChunk] = []
        for chunk in self._chunks.wanted():
            if name not in chunk.holders:
                continue
            covering = borrower.grant_of(chunk.position, now_s)
            if covering is None or (grant is not None and covering is not grant):
                continue
            grant = covering
            chunks.append(chunk)
            if len(chunks) == self._window_chunks:
                break
        return (grant, chunks) if grant is not None else None

    def _is_linked(self, borrower: Borrower) -> bool:
        peer = self._desk.book.get(borrower.holder.instance)
        return (
            peer is not None
            and peer.state is PeerState.LINKED
            and peer.holder.incarnation == borrower.holder.incarnation
        )

    def _commit(self, position: int, slot: int, roots: tuple[int, ...], tally: SourceTally) -> None:
        core = self._desk.instance
        parent = self.keys[position - 1] if position else None
        placement = Placement(position, self.keys[position], parent, slot)
        entry = core.commit(placement, roots, self.tenant)
        core.counters["fetched_chunks"] += 1
        tally.num_chunks += 1
        tally.num_bytes += core.chunk_bytes
        if self._chunks[position].state is ChunkState.ARRIVED and self.outcome is None:
            core.index.pin(entry)
            self._chunks.keep(position, entry)

    def _reject(self, position: int, slot: int, reading: _Reading) -> None:
        core = self._desk.instance
        core.slots.release(slot)
        core.counters["digest_mismatches"] += 1
        identity = core.identity
        report = ReportMismatch(
            instance=identity.instance,
            incarnation=identity.incarnation,
            namespace=identity.namespace.id,
            key=self.keys[position],
            slot=reading.grant.remote_by_position[position],
            generation=reading.grant.generations_by_position[position],
        )
        self._desk.emit(TellPeer(reading.borrower.holder, report))

    # ------------------------------------------------------------------ what goes wrong

    def _fail(self, reading: _Reading, reason: ShortReason, detail: str) -> None:
        if self.outcome is None:
            self._chunks.fail(reading.positions, reading.name, reason, detail)
            self._leave(reading.borrower, reason, detail)

    def _leave(self, borrower: Borrower, reason: ShortReason, detail: str) -> None:
        """Nothing more is to be had from a holder in this fetch."""
        if borrower.is_lost:
            return
        borrower.is_lost = True
        self._desk.instance.counters[f"holder_left_{reason.value}"] += 1
        self._chunks.strike(borrower.holder.instance, reason, detail)
        for grant in borrower.grants:
            self._release(borrower, grant)

    def _give_up_stalled(self, now_s: float) -> None:
        for reading in list(self._readings.values()):
            if reading.is_under_way and now_s >= reading.submitted_s + self._stall_s:
                self._give_up(reading, now_s)
                self._desk.book.down(reading.name, "a read stalled", now_s)
                detail = f"{reading.name}: a read took longer than {self._stall_s:g} s"
                self._fail(reading, ShortReason.READ_STALLED, detail)

    def _give_up(self, reading: _Reading, now_s: float) -> None:
        reading.is_given_up = True
        reading.borrower.read_ended(now_s)
        core = self._desk.instance
        core.counters["reads_given_up"] += 1
        for slot in reading.slots:
            core.slots.quarantine(slot)
        self._desk.emit(CancelRead(reading.read_id))

    def _forget(self, read_id: ReadId) -> None:
        reading = self._readings.pop(read_id, None)
        if reading is None:
            return
        for slot in reading.slots:
            self._desk.instance.slots.release(slot)
        self._grant_used(reading.borrower, reading.grant)

    def _grant_used(self, borrower: Borrower, grant: Grant) -> None:
        grant.num_reading -= 1
        if self.outcome is not None or borrower.is_lost:
            self._release(borrower, grant)

    def _release(self, borrower: Borrower, grant: Grant) -> None:
        """Gives a lease back, unless a read may still use it: then the last read does."""
        if grant.num_reading or grant.is_released:
            return
        grant.is_released = True
        identity = self._desk.instance.identity
        message = LeaseRelease(
            instance=identity.instance, incarnation=identity.incarnation, token=grant.token
        )
        self._desk.emit(TellPeer(borrower.holder, message))

    # ------------------------------------------------------------------ the end

    def _stop(self, reason: ShortReason, detail: str, now_s: float) -> None:
        self._is_locating = False
        self._chunks.lose_rest(reason, detail)
        for reading in self._readings.values():
            if reading.is_under_way:
                self._give_up(reading, now_s)
        self._deliver(now_s)

    def _deliver(self, now_s: float) -> None:
        chunks = self._chunks
        kept = [chunks[position].entry for position in range(chunks.first)]
        for position in range(chunks.first, len(chunks)):
            entry = chunks[position].entry
            if entry is not None:
                self._desk.instance.unpin(entry)
        is_complete = chunks.first == len(chunks)
        self._phases_s["done"] = now_s - self.started_s
        tallies = [borrower.tally for borrower in self._borrowers.values()]
        self.outcome = FetchOutcome(
            entries=[entry for entry in kept if entry is not None],
            reason=ShortReason.COMPLETE if is_complete else chunks[chunks.first].reason,
            detail="" if is_complete else chunks[chunks.first].detail,
            num_local=self._num_local,
            sources=sorted(
                (tally for tally in tallies if tally.num_chunks),
                key=lambda tally: -tally.num_chunks,
            ),
            phases_s=self._phases_s,
        )
        for borrower in self._borrowers.values():
            for grant in borrower.grants:
                self._release(borrower, grant)

    # ------------------------------------------------------------------ parts

    @property
    def _ask_timeout_s(self) -> float:
        return min(self._limits.ask_timeout_s, self._budget_s / 4)

    @property
    def _stall_s(self) -> float:
        return min(self._limits.stall_s, self._budget_s / 3)

    def _mark(self, phase: Phase, now_s: float) -> None:
        self._phases.append(phase)
        self._desk.note_phase(self)
        self._phases_s.setdefault(phase.value, now_s - self.started_s)


def _is_consistent(answer: LeaseGranted, num_asked: int) -> bool:
    count = len(answer.slots)
    return (
        count <= num_asked
        and len(answer.generations) == count
        and (count == 0 or len(answer.roots) > 0)
        and all(len(roots) == count for roots in answer.roots)
    )


def _renewed(grant: Grant, asked_s: float, answer: Message | None) -> None:
    if isinstance(answer, LeaseRenewed):
        grant.asked_s = asked_s
        grant.ttl_ms = answer.ttl_ms
        grant.renewal_asked_s = None
