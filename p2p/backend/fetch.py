"""One fetch from question to verified prefix, as a state machine.

Locate, plan, lease at several holders, read in windows that the holders take as they get free,
verify, commit; what fails goes to its next holder inside the same fetch; at the deadline the
longest verified prefix is delivered. A given-up read keeps its slots in quarantine, and its lease,
until it has quiesced. No I/O, no clock, no threads: the owner serialises the calls and carries out
the actions.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from p2p.backend.actions import (
    Phase,
    ReadId,
    ShortReason,
    SourceTally,
    Tag,
    TellPeer,
    Verify,
)
from p2p.backend.borrowing import Borrowing
from p2p.backend.chunks import ChunkState
from p2p.backend.delivery import deliver
from p2p.backend.fetch_context import FetchContext
from p2p.backend.handshake import Guess
from p2p.backend.pace import Pace
from p2p.backend.readings import Reading, Readings
from p2p.backend.second_look import SecondLook
from p2p.backend.store import Placement
from p2p.wire.messages import HolderRun, LeaseGranted, Located, Message, ReportMismatch

if TYPE_CHECKING:
    from p2p.backend.actions import FetchOutcome


class Fetch:
    """One fetch.

    Args:
        context: the request and its surroundings.
        on_phase: called at every phase, with its name.

    Attributes:
        outcome: what was delivered; None before.
    """

    def __init__(self, context: FetchContext, on_phase: Callable[[Phase], None]) -> None:
        self.outcome: FetchOutcome | None = None
        self._context = context
        self._chunks = context.chunks
        self._borrowing = Borrowing(context)
        self._readings = Readings(context, self._borrowing)
        self._on_phase = on_phase
        self._phases_s: dict[str, float] = {}
        self._num_local = 0
        self._is_locating = self._is_behind = False
        self._located_s = 0.0
        self._pace = Pace(context)
        self._look = SecondLook(context)
        self._located_from = 0

    @property
    def num_chunks(self) -> int:
        """Chunks that were asked for."""
        return len(self._chunks)

    @property
    def num_arrived(self) -> int:
        """Chunks whose reads have ended well."""
        return self._context.num_arrived

    @property
    def deadline_s(self) -> float:
        """When the outcome must be there."""
        return self._context.deadline_s

    @property
    def is_finished(self) -> bool:
        """True once nothing of this fetch is under way or in quarantine any more."""
        return self.outcome is not None and not self._readings

    # ------------------------------------------------------------------ questions and answers

    def start(self, guess: Guess | None) -> None:
        """Takes what is here already and asks for the rest.

        Args:
            guess: a holder to ask ahead of the directory, or instead of it if it is sure.
        """
        context = self._context
        self._take_local()
        self._num_local = self._chunks.first
        if self._num_local == len(self._chunks):
            self._deliver(context.started_s)
            return
        if context.limits.pull == "never":
            self._stop(ShortReason.RECOMPUTE_CHOSEN, "pull = never", context.started_s)
            return
        if guess is not None and self._pace.is_slow(guess.holder.instance, context.started_s):
            guess = None
        if guess is not None:
            self._borrowing.ask_ahead(guess.holder, context.started_s)
        if guess is None or not guess.is_sure:
            self._locate(context.started_s)

    def on_located(self, answer: Message | None, now_s: float) -> None:
        """Takes the directory's answer; None if there was none in time."""
        if not self._is_locating:
            return
        self._is_locating = False
        self._context.now_s = now_s
        self._mark(Phase.AFTER_LOCATE, now_s)
        if isinstance(answer, Located):
            self._borrowing.plan(answer, self._located_from, now_s)
            if self._is_behind:
                self._chunks.widen()
            if self._is_slower_than_computing(now_s):
                return
        else:
            self._borrowing.plan_without_directory(now_s)
        self._step(now_s)

    def waits_for(self, tag: Tag) -> bool:
        """True if a holder's answer to a request can still help."""
        return self.outcome is None and self._borrowing.waits_for(tag)

    def on_answer(self, tag: Tag, answer: Message | None, now_s: float) -> None:
        """Takes a holder's answer to a lease request or renewal; None if it is unreachable."""
        self._context.now_s = now_s
        if self.outcome is not None:
            return
        self._borrowing.on_answer(tag, answer, now_s)
        if isinstance(answer, LeaseGranted):
            self._mark(Phase.AFTER_LEASE, now_s)
        self._step(now_s)

    def on_peer(self, instance: str, now_s: float) -> None:
        """The standing of a holder changed: linked, refused or down."""
        self._context.now_s = now_s
        if self.outcome is None:
            self._borrowing.on_peer(instance)
            self._step(now_s)

    # ------------------------------------------------------------------ reads

    def holder_of(self, read_id: ReadId) -> str:
        """Returns the instance that a read under way is from."""
        return self._readings[read_id].name

    def is_reading(self, read_id: ReadId) -> bool:
        """True if a read is under way, or over and not verified, or in quarantine."""
        return read_id in self._readings

    def on_read_done(self, read_id: ReadId, now_s: float) -> None:
        """All bytes of a read are there; ``now_s`` was taken after that was seen."""
        self._context.now_s = now_s
        reading = self._readings[read_id]
        if reading.is_given_up:
            self._readings.forget(read_id)
            return
        self._readings.over(reading, now_s, is_good=True)
        if not any(self._chunks.is_open(position) for position in reading.positions):
            self._readings.forget(read_id)  # another copy was faster
            return
        if now_s > reading.grant.use_until_s:
            detail = f"{reading.name}: the read ended after its lease"
            self._readings.forget(read_id)
            self._readings.miss(reading, reading.positions, ShortReason.LEASE_LOST, detail)
        else:
            self._arrived(reading, now_s)
        self._step(now_s)

    def on_read_failed(
        self, read_id: ReadId, reason: str, now_s: float, *, is_stale: bool = False
    ) -> None:
        """A read ended badly and has quiesced; a stale one is no fault of the holder."""
        self._context.now_s = now_s
        reading = self._readings[read_id]
        if not reading.is_given_up:
            self._readings.over(reading, now_s, is_good=False)
            if not is_stale:
                self._context.desk.down(reading.name, reason, now_s)
            detail = f"{reading.name}: {reason}"
            self._readings.fail(reading, ShortReason.READ_FAILED, detail)
        self._readings.forget(read_id)
        self._step(now_s)

    def on_read_broken(
        self, read_id: ReadId, reason: str, now_s: float, *, is_stale: bool = False
    ) -> None:
        """A read ended badly and may still touch memory: quarantine until `on_quiesced`."""
        self._context.now_s = now_s
        reading = self._readings[read_id]
        if not reading.is_given_up:
            self._abandon(reading, ShortReason.READ_FAILED, reason, now_s, is_stale=is_stale)
            self._step(now_s)

    def on_quiesced(self, read_id: ReadId) -> None:
        """A given-up read can no longer touch memory: its slots leave quarantine."""
        self._readings.forget(read_id)

    def on_verified(self, read_id: ReadId, roots: Sequence[tuple[int, ...]], now_s: float) -> None:
        """Takes the digests of a read's chunks, one tuple over the ranks for each."""
        self._context.now_s = now_s
        self._take_verified(read_id, roots, now_s)
        self._step(now_s)

    def _take_verified(
        self, read_id: ReadId, roots: Sequence[tuple[int, ...]], now_s: float
    ) -> None:
        """Commits the chunks that are what the holder stored; the others go elsewhere."""
        reading = self._readings.take(read_id)
        failed: list[int] = []
        for position, slot, found in zip(reading.positions, reading.slots, roots, strict=True):
            if found == reading.grant.roots_by_position[position]:
                self._commit(position, slot, found, reading.borrower.tally)
            else:
                self._reject(position, slot, reading)
                failed.append(position)
        self._borrowing.lenders.read_over(reading.borrower, reading.grant, len(reading.positions))
        self._mark(Phase.AFTER_COMMIT, now_s)
        if failed and self.outcome is None:
            detail = f"{reading.name} delivered other bytes than it had stored"
            self._readings.miss(reading, failed, ShortReason.DIGEST_MISMATCH, detail)

    # ------------------------------------------------------------------ time

    def on_time(self, now_s: float) -> None:
        """Time alone: unanswered requests, stalled reads, renewals, the deadline."""
        self._context.now_s = now_s
        due_s = self.next_deadline_s()
        if due_s is None or now_s < due_s:
            return
        for reading in self._readings.stalled(now_s):
            reason = f"a read took longer than {self._context.stall_s:g} s"
            self._abandon(reading, ShortReason.READ_STALLED, reason, now_s)
        if self.outcome is not None:
            return
        if now_s >= self.deadline_s:
            spent = (ShortReason.BUDGET_SPENT, f"budget of {self._context.budget_s:g} s")
            self._stop(*self._borrowing.lenders.awaited_link() or spent, now_s)
        elif self._locate_by_s is not None and now_s >= self._locate_by_s:
            self._on_locate_time(now_s)
        elif self._look.is_due(now_s):
            self._borrowing.look_again(*self._look.begin())
            self._context.desk.instance.counters["directory_asked_again"] += 1
            self._locate(now_s)
        else:
            self._borrowing.on_time(now_s)
            self._borrowing.renew(now_s)
            if self._pace.is_behind(now_s):
                self._hurry(now_s)
            self._step(now_s)

    def next_deadline_s(self) -> float | None:
        """Returns when `on_time` has something to do; None if the fetch only waits to quiesce."""
        times = self._readings.deadlines_s()
        if self.outcome is None:
            times += [self.deadline_s, *self._borrowing.deadlines_s(), *self._pace.deadlines_s()]
            if self._locate_by_s is not None:
                times.append(self._locate_by_s)
            if self._look.due_s is not None:
                times.append(self._look.due_s)
        return min(times, default=None)

    def close(self, now_s: float) -> None:
        """Ends the fetch now, with what is verified."""
        if self.outcome is None:
            self._stop(ShortReason.CLOSED, "the backend is closing", now_s)

    # ------------------------------------------------------------------ parts

    @property
    def _locate_by_s(self) -> float | None:
        """When the directory must have answered, or has to be asked; None if neither."""
        if self._is_locating:
            patience_s = self._context.ask_timeout_s
            if self._context.desk.instance.membership.seems_silent:
                patience_s = min(patience_s, self._context.limits.silent_wait_s)
            return self._located_s + patience_s
        if not self._borrowing.awaits_guess:
            return None
        return self._context.started_s + self._context.limits.ahead_wait_s

    def _take_local(self) -> None:
        """Pins what is here; what was fetched before and is used again has proved its worth."""
        context, index = self._context, self._context.desk.instance.index
        for chunk in self._chunks:
            entry = index.get(chunk.key)
            if entry is not None and entry.is_readable_by(context.tenant):
                index.pin(entry)
                index.touch(entry)
                if context.limits.keep != "never":
                    index.keep(entry)
                self._chunks.keep(chunk.position, entry)

    def _on_locate_time(self, now_s: float) -> None:
        if self._is_locating:
            self.on_located(None, now_s)
        else:
            self._locate(now_s)

    def _locate(self, now_s: float) -> None:
        """Asks the directory for what is not here, unless the source is given."""
        self._is_locating = True
        self._located_s = now_s
        self._located_from = self._chunks.first
        missing = self._context.keys[self._located_from :]
        desk, source = self._context.desk, self._context.source
        if source is not None:
            run = HolderRun(start=0, count=len(missing), holders=(0,))
            self.on_located(Located(epoch=0, runs=(run,), holders=(source,)), now_s)
            return
        desk.ask_controller(desk.instance.question(missing, self._context.tenant))

    def _hurry(self, now_s: float) -> None:
        """The rest will be late: more holders are asked, also such as only the directory knows."""
        self._is_behind = True
        self._chunks.widen()
        if not self._chunks.is_planned and not self._is_locating:
            self._locate(now_s)

    def _is_slower_than_computing(self, now_s: float) -> bool:
        """Ends the fetch if the planned reads take longer than the engine's own prefill."""
        pull_s, compute_s = self._borrowing.pull_s, self._pace.compute_s(now_s)
        if pull_s is None or compute_s is None or pull_s <= compute_s:
            return False
        self._context.desk.instance.counters["fetches_left_to_compute"] += 1
        detail = f"reading takes {pull_s:.3g} s, computing {compute_s:.3g} s"
        self._stop(ShortReason.RECOMPUTE_CHOSEN, detail, now_s)
        return True

    def _step(self, now_s: float) -> None:
        """Does whatever can be done now."""
        if self.outcome is not None:
            return
        if not self._is_locating and self._borrowing.needs_directory:
            self._locate(now_s)
        if self._chunks.first < self._chunks.end:
            self._borrowing.ask(now_s)
            self._borrowing.ask_fellows(now_s)
            self._readings.submit(now_s)
            self._readings.hedge(now_s)
        if self._chunks.first == self._chunks.end and not self._look.is_awaited(now_s):
            self._deliver(now_s)

    def _arrived(self, reading: Reading, now_s: float) -> None:
        self._chunks.arrived(reading.positions)
        self._context.arrived_s = now_s
        self._context.num_arrived += len(reading.positions)
        self._mark(Phase.MID_TRANSFER, now_s)
        self._mark(Phase.BEFORE_VERIFY, now_s)
        if reading.is_verified:
            self._context.desk.emit(Verify(reading.read_id, reading.keys, reading.slots))
            return
        roots = [reading.grant.roots_by_position[position] for position in reading.positions]
        self._take_verified(reading.read_id, roots, now_s)

    def _abandon(
        self,
        reading: Reading,
        reason: ShortReason,
        detail: str,
        now_s: float,
        *,
        is_stale: bool = False,
    ) -> None:
        """Gives a read up and leaves its holder."""
        self._readings.give_up(reading, now_s)
        if not is_stale and now_s >= reading.submitted_s + self._context.limits.silence_s:
            self._context.desk.down(reading.name, detail, now_s)
        self._readings.fail(reading, reason, f"{reading.name}: {detail}")

    def _commit(self, position: int, slot: int, roots: tuple[int, ...], tally: SourceTally) -> None:
        core, keys = self._context.desk.instance, self._context.keys
        parent = keys[position - 1] if position else None
        placement = Placement(position, keys[position], parent, slot)
        num_others, keep = self._chunks[position].num_others, self._context.limits.keep
        entry = core.commit_copy(placement, roots, self._context.tenant, num_others, keep)
        core.counters["fetched_chunks"] += 1
        tally.num_chunks += 1
        tally.num_bytes += core.chunk_bytes
        if self._chunks[position].state is ChunkState.ARRIVED and self.outcome is None:
            self._chunks.keep(position, entry)
        else:
            core.unpin(entry)

    def _reject(self, position: int, slot: int, reading: Reading) -> None:
        core = self._context.desk.instance
        core.slots.release(slot)
        core.counters["digest_mismatches"] += 1
        report = ReportMismatch(
            instance=core.identity.instance,
            incarnation=core.identity.incarnation,
            namespace=core.namespace_id,
            key=self._context.keys[position],
            slot=reading.grant.remote_by_position[position],
            generation=reading.grant.generations_by_position[position],
        )
        self._context.desk.emit(TellPeer(reading.borrower.holder, report))

    def _stop(self, reason: ShortReason, detail: str, now_s: float) -> None:
        self._chunks.lose_rest(reason, detail)
        self._readings.give_up_all(now_s)
        self._deliver(now_s)

    def _deliver(self, now_s: float) -> None:
        self._is_locating = False  # the directory's answer may still be on its way
        tallies = [borrower.tally for borrower in self._borrowing.lenders]
        self.outcome = deliver(self._context, tallies, self._num_local, self._phases_s, now_s)
        self._context.is_delivered = True
        self._borrowing.end()

    def _mark(self, phase: Phase, now_s: float) -> None:
        self._phases_s.setdefault(phase.value, now_s - self._context.started_s)
        self._on_phase(phase)
