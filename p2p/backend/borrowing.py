"""The leases of one fetch: whom to ask, what was granted, when to renew and give back.

No I/O, no clock, no threads.
"""

from p2p.backend.actions import ShortReason, SourceTally, Tag
from p2p.backend.borrow import Borrower, Grant
from p2p.backend.fetch_context import FetchContext
from p2p.backend.handshake import PeerState
from p2p.backend.plan import Place, plan_runs
from p2p.keys import join_keys
from p2p.wire.messages import (
    LeaseBusy,
    LeaseGranted,
    LeaseRenew,
    LeaseRenewed,
    LeaseRequest,
    Located,
    Message,
    Refusal,
)


class Borrowing:
    """All holders of one fetch and what they lend.

    Args:
        context: the request.
    """

    def __init__(self, context: FetchContext) -> None:
        self._context = context
        self._borrowers: dict[str, Borrower] = {}
        self._asked: dict[Tag, Borrower] = {}
        self._renewals: dict[Tag, tuple[Grant, float]] = {}

    @property
    def borrowers(self) -> list[Borrower]:
        """Everybody who was planned to serve."""
        return list(self._borrowers.values())

    # ------------------------------------------------------------------ asking

    def plan(self, located: Located, now_s: float) -> None:
        """Spreads the wanted chunks over the holders that the directory named."""
        core, book, chunks = (
            self._context.desk.instance,
            self._context.desk.book,
            self._context.chunks,
        )
        identity = core.identity
        runs = plan_runs(
            located,
            chunks.first,
            Place(identity.instance, identity.host, identity.rack),
            core.chunk_bytes,
            lambda holder: book.is_usable(holder, now_s),
            self._context.limits.plan,
        )
        for run in runs:
            for holder in run.holders:
                name = holder.instance
                self._borrowers.setdefault(name, Borrower(holder, SourceTally(name)))
            for position in range(run.start, min(run.start + run.count, len(chunks))):
                chunks[position].holders = [holder.instance for holder in run.holders]
                chunks[position].width = run.width
        for chunk in list(chunks.wanted()):
            if not chunk.holders:
                reason, detail = ShortReason.NO_HOLDER, "no holder is known or usable"
                if located.partial:
                    reason, detail = ShortReason.DIRECTORY_PARTIAL, "the directory is recovering"
                chunks.lose(chunk.position, reason, detail)

    def ask(self, now_s: float) -> None:
        """Asks every holder for the chunks that it is to serve and has not been asked for."""
        if not self._context.chunks.needs_holders:
            return
        self._context.chunks.needs_holders = False
        wanted = list(self._context.chunks.wanted())
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
                request = self._request(borrower, positions, now_s)
                tag = self._context.desk.ask(borrower.holder, request, now_s)
                self._asked[tag] = borrower

    def renew(self, now_s: float) -> None:
        """Asks for more time where reads are under way and half of the time is over."""
        identity = self._context.desk.instance.identity
        for borrower in self._borrowers.values():
            for grant in borrower.grants:
                if grant.is_renewable(now_s):
                    request = LeaseRenew(
                        instance=identity.instance,
                        incarnation=identity.incarnation,
                        token=grant.token,
                        ttl_ms=self._ttl_ms(now_s),
                    )
                    grant.renewal_asked_s = now_s
                    tag = self._context.desk.ask(borrower.holder, request, now_s)
                    self._renewals[tag] = (grant, now_s)

    # ------------------------------------------------------------------ what came back

    def waits_for(self, tag: Tag) -> bool:
        """True if the answer to a request can still help."""
        return tag in self._asked or tag in self._renewals

    def on_answer(self, tag: Tag, answer: Message | None) -> None:
        """Takes a holder's answer; None if it is unreachable."""
        renewal = self._renewals.pop(tag, None)
        if renewal is not None:
            _renewed(*renewal, answer)
            return
        borrower = self._asked.pop(tag, None)
        if borrower is None:
            return
        positions, borrower.asked_positions = borrower.asked_positions, ()
        self._context.chunks.needs_holders = True
        name = borrower.holder.instance
        match answer:
            case LeaseGranted() if _is_consistent(answer, len(positions)):
                self._on_granted(borrower, positions, answer)
            case LeaseGranted():
                self.leave(borrower, ShortReason.PEER_REFUSED, f"{name} granted a malformed lease")
            case LeaseBusy():
                self.leave(borrower, ShortReason.PEER_BUSY, f"{name} is busy")
            case Refusal():
                detail = f"{name} refused: {answer.code.value} {answer.field}"
                self.leave(borrower, ShortReason.PEER_REFUSED, detail.rstrip())
            case _:
                self.leave(borrower, ShortReason.PEER_SILENT, f"{name} did not answer")

    def on_peer(self, instance: str) -> None:
        """The standing of a holder changed."""
        borrower = self._borrowers.get(instance)
        peer = self._context.desk.book.get(instance)
        if borrower is None or peer is None:
            return
        if peer.state is PeerState.REFUSED:
            self.leave(borrower, ShortReason.PEER_REFUSED, f"{instance}: {peer.reason}")
        elif peer.state is PeerState.DOWN:
            self.leave(borrower, ShortReason.LINK_FAILED, f"{instance}: {peer.reason}")

    def on_time(self, now_s: float) -> None:
        """Leaves the holders that have not answered for too long; notices leases that are over."""
        for grant in self._open_grants():
            if now_s >= grant.use_until_s:
                grant.is_expired = True
                self._context.chunks.needs_holders = True
        for name, borrower in self._borrowers.items():
            if self._waits_for_link(borrower) and now_s >= self._link_by_s(borrower):
                self._context.desk.book.down(name, "no answer to hello", now_s)
                self.leave(borrower, ShortReason.PEER_SILENT, f"{name} did not answer a hello")
        for tag, borrower in list(self._asked.items()):
            if now_s >= borrower.asked_s + self._context.ask_timeout_s:
                del self._asked[tag]
                borrower.asked_positions = ()
                name = borrower.holder.instance
                self._context.desk.book.down(name, "no answer to a lease request", now_s)
                self.leave(borrower, ShortReason.PEER_SILENT, f"{name} did not answer")

    def deadlines_s(self) -> list[float]:
        """Returns when questions have been open for too long, and when leases are over."""
        timeout_s = self._context.ask_timeout_s
        asked = [borrower.asked_s + timeout_s for borrower in self._asked.values()]
        links = [self._link_by_s(b) for b in self._borrowers.values() if self._waits_for_link(b)]
        return asked + links + [grant.use_until_s for grant in self._open_grants()]

    def _waits_for_link(self, borrower: Borrower) -> bool:
        state = self._context.desk.book.state(borrower.holder.instance)
        return not borrower.is_lost and bool(borrower.grants) and state is PeerState.GREETED

    def _link_by_s(self, borrower: Borrower) -> float:
        return borrower.asked_s + self._context.ask_timeout_s

    # ------------------------------------------------------------------ giving back

    def leave(self, borrower: Borrower, reason: ShortReason, detail: str) -> None:
        """Nothing more is to be had from a holder in this fetch."""
        if borrower.is_lost:
            return
        borrower.is_lost = True
        self._context.desk.instance.counters[f"holder_left_{reason.value}"] += 1
        self._context.chunks.strike(borrower.holder.instance, reason, detail)
        for grant in borrower.grants:
            self._release(borrower, grant)

    def read_over(self, borrower: Borrower, grant: Grant) -> None:
        """A read under a lease can no longer touch memory."""
        grant.num_reading -= 1
        if self._context.is_delivered or borrower.is_lost:
            self._release(borrower, grant)

    def release_all(self) -> None:
        """Gives back every lease under which nothing is read; the others go with their reads."""
        for borrower in self._borrowers.values():
            for grant in borrower.grants:
                self._release(borrower, grant)

    def _release(self, borrower: Borrower, grant: Grant) -> None:
        if grant.num_reading or grant.is_released:
            return
        grant.is_released = True
        self._context.desk.give_back(borrower.holder, grant.token)

    # ------------------------------------------------------------------ parts

    def _open_grants(self) -> list[Grant]:
        return [
            grant
            for borrower in self._borrowers.values()
            for grant in borrower.grants
            if not grant.is_released and not grant.is_expired
        ]

    def _request(
        self, borrower: Borrower, positions: tuple[int, ...], now_s: float
    ) -> LeaseRequest:
        identity = self._context.desk.instance.identity
        blob, key_bytes = join_keys(self._context.keys[position] for position in positions)
        return LeaseRequest(
            instance=identity.instance,
            incarnation=identity.incarnation,
            holder_incarnation=borrower.holder.incarnation,
            namespace=identity.namespace.id,
            keys=blob,
            key_bytes=key_bytes,
            ttl_ms=self._ttl_ms(now_s),
            tenant=self._context.tenant,
        )

    def _ttl_ms(self, now_s: float) -> int:
        left_s = max(0.0, self._context.deadline_s - now_s) + self._context.limits.lease_slack_s
        return int(1000 * min(left_s, 3600.0))

    def _on_granted(
        self, borrower: Borrower, positions: tuple[int, ...], answer: LeaseGranted
    ) -> None:
        if answer.slots:
            borrower.take(positions, borrower.asked_s, answer)
        if len(answer.slots) < len(positions):
            gone = positions[len(answer.slots)]
            name = borrower.holder.instance
            detail = f"{name} no longer has chunk {gone}"
            self._context.chunks.refuse(gone, name, ShortReason.EVICTED, detail)


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
