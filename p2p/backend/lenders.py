"""Everybody that one fetch borrows from: who they are, what they lend, who was left and why.

No I/O, no clock, no threads.
"""

from collections.abc import Iterator

from p2p.backend.actions import ShortReason, SourceTally
from p2p.backend.borrow import Borrower, Grant
from p2p.backend.chunks import ChunkState
from p2p.backend.fetch_context import FetchContext
from p2p.backend.handshake import Peer, PeerState
from p2p.wire.messages import Holder, Refusal

# what a holder that lives may have been left for
_MAY_RETURN = frozenset(
    {
        ShortReason.PEER_SILENT,
        ShortReason.LINK_FAILED,
        ShortReason.LINK_SLOW,
        ShortReason.READ_FAILED,
        ShortReason.READ_STALLED,
        ShortReason.LEASE_LOST,
    }
)
_REVIVED_PATIENCE_S = 0.5
_REVIVED_SHARE = 1 / 16  # of the budget, if that is longer


class Lenders:
    """All holders of one fetch and what they lend.

    Args:
        context: the request.
    """

    def __init__(self, context: FetchContext) -> None:
        self._context = context
        self._by_name: dict[str, Borrower] = {}

    def __iter__(self) -> Iterator[Borrower]:
        return iter(list(self._by_name.values()))

    def get(self, instance: str) -> Borrower | None:
        """Returns what is between the fetch and a holder; None if it was never planned."""
        return self._by_name.get(instance)

    def meet(self, holder: Holder) -> Borrower:
        """Returns the borrower of a holder; an earlier start's is replaced if it lends nothing."""
        known = self._by_name.get(holder.instance)
        if known is not None and (known.grants or known.holder.incarnation >= holder.incarnation):
            return known
        return self._replace(Borrower(holder, SourceTally(holder.instance)))

    def meet_again(self, holder: Holder) -> Borrower:
        """Returns the borrower of a holder that the directory names once more.

        One that was left and may live is replaced. Until it has been heard it gets only what is
        left of half a second, or of a part of the budget if that is longer.
        """
        known = self.meet(holder)
        if not known.is_lost or known.lost_for not in _MAY_RETURN:
            return known
        spent_s = 0.0 if known.patience_s is None else known.silent_s
        first_s = max(_REVIVED_PATIENCE_S, self._context.budget_s * _REVIVED_SHARE)
        left_s = (known.patience_s or first_s) - spent_s
        if left_s <= 0:
            return known
        return self._replace(Borrower(holder, known.tally, patience_s=left_s))

    def take_back(self, borrower: Borrower) -> Borrower:
        """Returns a new borrower for a holder that was left and may live, else the same."""
        if not borrower.is_lost or borrower.lost_for not in _MAY_RETURN:
            return borrower
        return self._replace(Borrower(borrower.holder, borrower.tally))

    def contact_of(self, borrower: Borrower) -> Peer | None:
        """Returns how we stand with a holder while the first contact with it goes on."""
        peer = self._context.desk.book.get(borrower.holder.instance)
        return peer if peer is not None and peer.is_in_contact else None

    def is_linking(self, borrower: Borrower) -> bool:
        """True if a holder lends and cannot be read from yet."""
        if borrower.is_lost or not borrower.grants:
            return False
        return self.contact_of(borrower) is not None

    def answer_by_s(self, borrower: Borrower) -> float:
        """Returns when a holder that was asked must have answered, and be connected."""
        peer = self._context.desk.book.get(borrower.holder.instance)
        if peer is not None and peer.is_in_contact:
            return self._context.link_by_s(peer)
        patience_s = self._context.ask_timeout_s
        if borrower.patience_s is not None:
            patience_s = min(patience_s, borrower.patience_s)
        linked_s = float("-inf") if peer is None else peer.linked_s
        return max(borrower.asked_s, linked_s) + patience_s

    def awaited_link(self) -> tuple[ShortReason, str] | None:
        """Returns the first contact for which the next chunk of the prefix waits, if for one."""
        chunks = self._context.chunks
        chunk = chunks[chunks.first]
        if chunk.state is not ChunkState.WANTED:
            return None
        borrowers = (self._by_name.get(name) for name in chunk.holders)
        contacts = (self.contact_of(one) for one in borrowers if one is not None)
        delays = (contact.delay(self._context.now_s) for contact in contacts if contact)
        return next(((ShortReason.LINK_SLOW, delay) for delay in delays), None)

    # ------------------------------------------------------------------ giving back

    def leave(self, borrower: Borrower, reason: ShortReason, detail: str) -> None:
        """Nothing more is to be had from a holder in this fetch."""
        if borrower.is_lost:
            return
        borrower.is_lost = True
        borrower.lost_for = reason
        self.note(borrower.holder.instance, reason, detail)
        self._context.desk.instance.counters[f"holder_left_{reason.value}"] += 1
        self._context.chunks.strike(borrower.holder.instance, reason, detail)
        for grant in borrower.grants:
            self.release(borrower, grant)

    def read_over(self, borrower: Borrower, grant: Grant, num_chunks: int) -> None:
        """A read of so many chunks under a lease can no longer touch memory."""
        grant.num_reading -= 1
        grant.num_unread -= num_chunks
        if self._context.is_delivered or borrower.is_lost or grant.num_unread <= 0:
            self.release(borrower, grant)

    def release_all(self) -> None:
        """Gives back every lease under which nothing is read; the others go with their reads."""
        for borrower in self:
            for grant in borrower.grants:
                self.release(borrower, grant)

    def release(self, borrower: Borrower, grant: Grant) -> None:
        """Gives a lease back, unless something is read under it."""
        if grant.num_reading or grant.is_released:
            return
        grant.is_released = True
        self._context.desk.give_back(borrower.holder, grant.token)
        if borrower.retry_at_s:  # what it did not lend for want of room fits now
            borrower.retry_at_s = 0.0
            self._context.chunks.needs_holders = True

    # ------------------------------------------------------------------ what went wrong

    def note(
        self, instance: str, reason: ShortReason, detail: str, refusal: Refusal | None = None
    ) -> None:
        """Notes what went wrong with a holder."""
        context = self._context
        context.troubles.note(instance, reason, detail, context.now_s, refusal)

    def note_standing(self, peer: Peer) -> tuple[ShortReason, str]:
        """Notes why a holder is not asked, and returns that."""
        name = peer.holder.instance
        reason, detail = ShortReason.LINK_FAILED, f"{name}: {peer.reason}"
        if peer.state is PeerState.REFUSED:
            reason = ShortReason.PEER_REFUSED
        elif peer.is_in_contact:
            reason, detail = ShortReason.LINK_SLOW, peer.delay(self._context.now_s)
        self.note(name, reason, detail, peer.refusal)
        return reason, detail

    def _replace(self, borrower: Borrower) -> Borrower:
        self._by_name[borrower.holder.instance] = borrower
        return borrower
