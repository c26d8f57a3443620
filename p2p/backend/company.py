"""Who is asked beside a holder with which the first contact takes its time.

A holder to which we are linked is asked at once, a stranger a moment later. The first one stays in
the fetch, and serves once it is linked. No I/O, no clock, no threads.
"""

from p2p.backend.chunks import WantedChunk
from p2p.backend.fetch_context import FetchContext
from p2p.backend.handshake import PeerState
from p2p.backend.lenders import Lenders


class Company:
    """Gives chunks whose holders are not linked yet one more to ask.

    Args:
        context: the request.
        lenders: everybody that it borrows from.
    """

    def __init__(self, context: FetchContext, lenders: Lenders) -> None:
        self._context = context
        self._lenders = lenders
        self._slow: set[str] = set()  # holders whose first contact has lasted for long

    def join(self) -> bool:
        """Adds holders where all that were asked are not linked yet; returns whether it did."""
        if not any(self._lenders.contact_of(borrower) for borrower in self._lenders):
            return False
        num_added = 0
        for chunk in self._context.chunks.wanted():
            while self._add(chunk):
                num_added += 1
        return num_added > 0

    def on_time(self, now_s: float) -> None:
        """Notices which first contacts have lasted for long."""
        for borrower in self._lenders:
            peer = self._lenders.contact_of(borrower)
            name = borrower.holder.instance
            is_long = peer is not None and now_s >= peer.contact_s + self._context.company_s
            if is_long and not borrower.is_lost and name not in self._slow:
                self._slow.add(name)
                self._context.chunks.needs_holders = True

    def deadlines_s(self) -> list[float]:
        """Returns when first contacts will have lasted for long."""
        return [
            peer.contact_s + self._context.company_s
            for borrower in self._lenders
            if not borrower.is_lost
            and borrower.holder.instance not in self._slow
            and (peer := self._lenders.contact_of(borrower)) is not None
        ]

    def _add(self, chunk: WantedChunk) -> bool:
        """Adds one holder to those who are asked for a chunk; returns whether it did."""
        asked, others = chunk.asked_holders, chunk.holders[chunk.width :]
        if not others or not all(self._is_in_contact(name) for name in asked):
            return False
        book = self._context.desk.book
        linked = (name for name in others if book.state(name) is PeerState.LINKED)
        added = next(linked, None)
        if added is None and self._slow.issuperset(asked):
            added = others[0]
        if added is None:
            return False
        chunk.holders.remove(added)
        chunk.holders.insert(chunk.width, added)
        chunk.width += 1
        return True

    def _is_in_contact(self, name: str) -> bool:
        """True while the first contact with a holder goes on."""
        peer = self._context.desk.book.get(name)
        return peer is not None and peer.is_in_contact
