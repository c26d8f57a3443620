"""The leases of one fetch: whom to ask, what was granted, when to renew and give back.

No I/O, no clock, no threads.
"""

from collections.abc import Sequence

from p2p.backend.actions import ShortReason, Tag
from p2p.backend.borrow import Borrower
from p2p.backend.company import Company
from p2p.backend.fellows import Fellows
from p2p.backend.fetch_context import FetchContext
from p2p.backend.handshake import PeerState
from p2p.backend.lease_messages import is_consistent, lease_request
from p2p.backend.lenders import Lenders
from p2p.backend.orphans import Orphans
from p2p.backend.peers import likely_peers
from p2p.backend.plan import plan_runs, pull_s
from p2p.backend.planning import give_peers, give_runs, view_of
from p2p.backend.renewals import Renewals
from p2p.wire.messages import Holder, LeaseBusy, LeaseGranted, Located, Message, Refusal

_RETRY_MIN_S = 0.001


class Borrowing:
    """All holders of one fetch and what they lend.

    Args:
        context: the request.

    Attributes:
        lenders: everybody who was planned to serve.
        fellows: other readers of the same.
        pull_s: how long the planned reads take, by what was measured; None if that is unknown.
    """

    def __init__(self, context: FetchContext) -> None:
        self.pull_s: float | None = None
        self._context = context
        self.lenders = Lenders(context)
        self.fellows = Fellows(context, self.lenders)
        self._asked: dict[Tag, Borrower] = {}
        self._is_looking = False
        self._renewals = Renewals(context)
        self._company = Company(context, self.lenders)
        self._orphans = Orphans(context)
        self._guessed = ""

    @property
    def is_planned(self) -> bool:
        """True once the directory has answered, or was silent."""
        return self._context.chunks.is_planned

    @property
    def awaits_guess(self) -> bool:
        """True while a holder that was asked ahead has not answered, and the directory neither."""
        borrower = self.lenders.get(self._guessed)
        return not self.is_planned and borrower is not None and bool(borrower.asked_positions)

    @property
    def needs_directory(self) -> bool:
        """True if the directory has not answered and nobody is known for some wanted chunk."""
        chunks = self._context.chunks
        is_open = chunks.needs_holders and not chunks.is_planned
        return is_open and bool(self._orphans.positions(self._awaited))

    # ------------------------------------------------------------------ asking

    def ask_ahead(self, holder: Holder, now_s: float) -> None:
        """Asks a likely holder for everything before the directory has said who holds it."""
        borrower = self.lenders.meet(holder)
        self._guessed = holder.instance
        positions = tuple(chunk.position for chunk in self._context.chunks.wanted())
        self._ask_for(borrower, positions, now_s)

    def plan_without_directory(self, now_s: float) -> None:
        """The directory is silent: a few known peers are asked for everything, directly."""
        chunks, core = self._context.chunks, self._context.desk.instance
        chunks.is_planned = True
        chunks.needs_holders = True
        if not self._is_looking:
            self._orphans.cause = (ShortReason.CONTROLLER_SILENT, "no answer to locate")
        peers = likely_peers(self._context, now_s)
        core.counters["peers_asked_directly"] += len(peers)
        give_peers(self._context, [peer.instance for peer in peers if self._may_ask(peer)])
        self._lose_orphans()

    def plan(self, located: Located, offset: int, now_s: float) -> None:
        """Spreads the wanted chunks over the holders that the directory named.

        Args:
            located: its answer.
            offset: position of the first chunk that it was asked for.
            now_s: the time.
        """
        context = self._context
        context.chunks.is_planned = True
        context.chunks.needs_holders = True
        book, view = context.desk.book, view_of(context, now_s)
        runs = plan_runs(located, offset, view, context.limits.plan)
        for holder in located.holders:
            peer = book.get(holder.instance)
            if peer is not None and not context.is_usable(holder, now_s):
                self._orphans.standing[holder.instance] = self.lenders.note_standing(peer)
        self.pull_s = pull_s(runs, view)
        if runs and not self._guessed and not self._is_looking and not located.partial:
            book.judge_unasked([holder.instance for holder in runs[0].holders])
        if context.source is None:  # else nobody but the caller has named it
            context.chunks.note_named(located, offset)
        give_runs(context, runs, self._may_ask)
        if located.partial and self._orphans.cause[0] is ShortReason.NO_HOLDER:
            self._orphans.cause = (ShortReason.DIRECTORY_PARTIAL, "the directory is recovering")
        self._lose_orphans()

    def look_again(self, reason: ShortReason, detail: str) -> None:
        """The directory is asked once more for what was lost, for this reason."""
        self._is_looking = True
        self._orphans.cause = (reason, detail)
        self._context.chunks.revive()

    def ask(self, now_s: float) -> None:
        """Asks every holder for the chunks that it is to serve and has not been asked for."""
        if not self._context.chunks.needs_holders:
            return
        self._ask_all(now_s)
        if self._company.join():
            self._ask_all(now_s)

    def _ask_all(self, now_s: float) -> None:
        self._context.chunks.needs_holders = False
        wanted = list(self._context.chunks.wanted())
        for borrower in self.lenders:
            name = borrower.holder.instance
            if borrower.is_lost or borrower.asked_positions or now_s < borrower.retry_at_s:
                continue
            positions = tuple(
                chunk.position
                for chunk in wanted
                if name in chunk.asked_holders and borrower.grant_of(chunk.position, now_s) is None
            )
            if positions:
                self._ask_for(borrower, positions, now_s)

    def ask_fellows(self, now_s: float) -> None:
        """Asks other readers of the same for what they have by now."""
        self.fellows.begin()
        for borrower, positions in self.fellows.due(now_s):
            self._ask_for(borrower, positions, now_s)

    def end(self) -> None:
        """The fetch is over: gives back what nobody reads."""
        self.fellows.end()
        self.lenders.release_all()

    def ask_another(self, borrower: Borrower, positions: tuple[int, ...], now_s: float) -> bool:
        """Asks another holder for chunks that are being read from one.

        Returns false if there is none; true also if one has been asked and has not answered.
        """
        for name in self._context.chunks[positions[0]].holders:
            other = self.lenders.get(name)
            if other is None or other is borrower or other.is_lost or now_s < other.retry_at_s:
                continue
            if other.asked_positions or self.lenders.is_linking(other):
                return True
            if other.grant_of(positions[0], now_s) is None:
                self._ask_for(other, positions, now_s)
                return True
        return False

    def renew(self, now_s: float) -> None:
        """Asks for more time where reads are under way and half of the time is over."""
        for borrower in self.lenders:
            self._renewals.ask(borrower, now_s)

    # ------------------------------------------------------------------ what came back

    def waits_for(self, tag: Tag) -> bool:
        """True if the answer to a request can still help."""
        return tag in self._asked or self._renewals.waits_for(tag)

    def on_answer(self, tag: Tag, answer: Message | None, now_s: float) -> None:
        """Takes a holder's answer; None if it is unreachable."""
        if self._renewals.on_answer(tag, answer):
            return
        borrower = self._asked.pop(tag, None)
        if borrower is None:
            return
        positions, borrower.asked_positions = borrower.asked_positions, ()
        if answer is not None:
            borrower.patience_s = None
        self._context.chunks.needs_holders = True
        if isinstance(answer, LeaseGranted):
            self._on_granted(borrower, positions, answer, now_s)
        else:
            self._on_not_granted(borrower, positions, answer, now_s)
        if self.is_planned:
            self._lose_orphans()

    def on_peer(self, instance: str) -> None:
        """The standing of a holder changed."""
        borrower = self.lenders.get(instance)
        peer = self._context.desk.book.get(instance)
        if borrower is None or peer is None:
            return
        if peer.state is PeerState.REFUSED or peer.state is PeerState.DOWN:
            self.lenders.leave(borrower, *self.lenders.note_standing(peer))

    def on_time(self, now_s: float) -> None:
        """Leaves the holders that have not answered for too long; notices leases that are over."""
        self._company.on_time(now_s)
        for borrower in self.lenders:
            self._on_time_of(borrower, now_s)
        for tag, borrower in list(self._asked.items()):
            if now_s >= self.lenders.answer_by_s(borrower):
                del self._asked[tag]
                positions, borrower.asked_positions = borrower.asked_positions, ()
                self._on_no_answer(borrower, positions, now_s)
        if self.is_planned:
            self._lose_orphans()

    def _on_time_of(self, borrower: Borrower, now_s: float) -> None:
        for grant in borrower.grants:
            if grant.is_open and now_s >= grant.use_until_s:
                grant.is_expired = True
                self._context.chunks.needs_holders = True
        if borrower.retry_at_s and now_s >= borrower.retry_at_s:
            borrower.retry_at_s = 0.0
            self._context.chunks.needs_holders = True
        name = borrower.holder.instance
        is_late = now_s >= self.lenders.answer_by_s(borrower) and self.lenders.is_linking(borrower)
        if is_late and not self.fellows.is_spare(name, borrower.lent_positions):
            self._on_silence(borrower, now_s)

    def deadlines_s(self) -> list[float]:
        """Returns when questions have been open for too long, and when leases are over."""
        times = [self.lenders.answer_by_s(borrower) for borrower in self._asked.values()]
        times += self.fellows.deadlines_s() + self._company.deadlines_s()
        for borrower in self.lenders:
            if borrower.retry_at_s:
                times.append(borrower.retry_at_s)
            if self.lenders.is_linking(borrower) and borrower.holder.instance not in self.fellows:
                times.append(self.lenders.answer_by_s(borrower))
            times.extend(grant.use_until_s for grant in borrower.grants if grant.is_open)
        return times

    # ------------------------------------------------------------------ parts

    def _may_ask(self, holder: Holder) -> bool:
        """Meets a holder; false if nothing more is to be had from it in this fetch."""
        meet = self.lenders.meet_again if self._is_looking else self.lenders.meet
        borrower = meet(holder)
        get = self.lenders.get
        self._asked = {t: b for t, b in self._asked.items() if get(b.holder.instance) is b}
        return not borrower.is_lost

    @property
    def _awaited(self) -> set[int]:
        """Chunks for which somebody was asked and has not answered."""
        return {p for borrower in self._asked.values() for p in borrower.asked_positions}

    def _lose_orphans(self) -> None:
        """Chunks for which nobody is left are not to be had."""
        self._orphans.lose(self._awaited)

    def _ask_for(self, borrower: Borrower, positions: tuple[int, ...], now_s: float) -> None:
        borrower.asked_positions = positions
        borrower.asked_s = now_s
        request = lease_request(self._context, borrower.holder, positions, now_s)
        tag = self._context.desk.ask(borrower.holder, request, now_s)
        self._asked[tag] = borrower

    def _on_no_answer(self, borrower: Borrower, positions: tuple[int, ...], now_s: float) -> None:
        """Leaves a holder that has not answered, unless its reads end, or nothing depends on it.

        Then others come first.
        """
        name = borrower.holder.instance
        is_heard = borrower.num_reading and borrower.heard_s > borrower.asked_s
        if not is_heard and not self.fellows.is_spare(name, positions):
            self._on_silence(borrower, now_s)
            return
        self.fellows.answered(name, 0, now_s)
        borrower.retry_at_s = now_s + _RETRY_MIN_S
        for position in positions:
            self._context.chunks.postpone(position, name, ())

    def _on_silence(self, borrower: Borrower, now_s: float) -> None:
        """Leaves a holder, and warns others of it if it has been silent for long enough.

        A first contact goes on without this fetch.
        """
        name = borrower.holder.instance
        borrower.silent_s = now_s - borrower.asked_s
        contact = self.lenders.contact_of(borrower)
        if contact is not None:
            self.lenders.leave(borrower, *self.lenders.note_standing(contact))
            return
        detail = f"{name} did not answer"
        if self._context.desk.book.is_silent(name, now_s, self._context.limits.silence_s):
            self._context.desk.down(name, detail, now_s)
        self.lenders.leave(borrower, ShortReason.PEER_SILENT, detail)

    def _on_granted(
        self, borrower: Borrower, positions: tuple[int, ...], answer: LeaseGranted, now_s: float
    ) -> None:
        """Keeps what was lent; strikes the holder from what it has not."""
        name = borrower.holder.instance
        if not is_consistent(answer, len(positions)):
            if answer.token:
                self._context.desk.give_back(borrower.holder, answer.token)
            self.lenders.leave(
                borrower, ShortReason.PEER_REFUSED, f"{name} granted a malformed lease"
            )
            return
        if name == self._guessed:
            is_right = len(answer.slots) == len(positions)
            self._context.desk.book.judge(name, is_right=is_right)
        self.fellows.answered(name, len(answer.slots), now_s)
        looked_at = positions[: len(answer.slots) + len(answer.missing)]
        missing = {looked_at[number] for number in answer.missing}
        covered = [position for position in looked_at if position not in missing]
        if covered and not self._take(borrower, covered, answer, now_s):
            return
        for position in sorted(missing):
            if not self.fellows.await_chunk(name, position):
                self._miss(name, position)
        if len(looked_at) < len(positions):  # the rest has no room in what we may borrow
            left = positions[len(looked_at) :]
            self._wait(borrower, left, answer.retry_after_ms, answer.alternates, now_s)
        else:
            self.fellows.meet(answer.alternates, now_s)

    def _miss(self, name: str, position: int) -> None:
        """A holder lacks a chunk: evicted, or never there if nobody said that it was."""
        chunk = self._context.chunks[position]
        reason, detail = chunk.reason, chunk.detail
        is_damaged = reason is ShortReason.DIGEST_MISMATCH  # then its holder drops it: no news
        if name in chunk.named and not is_damaged:
            reason, detail = ShortReason.EVICTED, f"{name} no longer has chunk {position}"
            self.lenders.note(name, reason, detail)
        elif not detail:
            reason, detail = self._orphans.cause[0], f"{name} does not have chunk {position}"
        self._context.chunks.refuse(position, name, reason, detail)

    def _take(
        self, borrower: Borrower, covered: list[int], answer: LeaseGranted, now_s: float
    ) -> bool:
        """Keeps a lease; false if it is of no use."""
        grant = borrower.take(covered, borrower.asked_s, answer)
        name = borrower.holder.instance
        if borrower.is_lost or grant.use_until_s <= now_s:
            self.lenders.release(borrower, grant)
            detail = f"{name} lends for {answer.ttl_ms} ms, which is over on arrival"
            self.lenders.leave(borrower, ShortReason.LEASE_LOST, detail)
            return False
        chunks = self._context.chunks
        note_lent = chunks.lent_too if name in self.fellows else chunks.lent
        for position in covered:
            note_lent(position, name)
        return True

    def _on_not_granted(
        self,
        borrower: Borrower,
        positions: tuple[int, ...],
        answer: Message | None,
        now_s: float,
    ) -> None:
        name = borrower.holder.instance
        match answer:
            case LeaseBusy():
                self._context.desk.instance.counters["leases_met_busy"] += 1
                self._context.desk.book.speeds.refused(name, now_s)
                self._wait(borrower, positions, answer.retry_after_ms, answer.alternates, now_s)
            case Refusal():
                detail = f"{name} refused: {answer.code.value} {answer.field}".rstrip()
                self.lenders.note(name, ShortReason.PEER_REFUSED, detail, answer)
                if name == self._guessed:
                    self._orphans.cause = (ShortReason.PEER_REFUSED, detail)
                self.lenders.leave(borrower, ShortReason.PEER_REFUSED, detail)
            case _:
                self.lenders.leave(borrower, ShortReason.PEER_SILENT, f"{name} did not answer")

    def _wait(
        self,
        borrower: Borrower,
        positions: Sequence[int],
        retry_after_ms: int,
        alternates: Sequence[str],
        now_s: float,
    ) -> None:
        """Others are asked first for what a busy holder did not lend; it is asked again later.

        Those that it names have what it was asked for, or are about to.
        """
        borrower.retry_at_s = now_s + max(retry_after_ms / 1000, _RETRY_MIN_S)
        name = borrower.holder.instance
        detail = f"{name} is busy with {len(positions)} chunks from {positions[0]} on"
        self.lenders.note(name, ShortReason.PEER_BUSY, detail)
        for holder in self.fellows.meet(alternates, now_s):
            if self._may_ask(holder):
                for position in positions:
                    self._context.chunks.lent(position, holder.instance)
        for position in positions:
            self._context.chunks.postpone(position, name, alternates)
