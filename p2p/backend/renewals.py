"""The renewals of one fetch's leases. No I/O, no clock, no threads."""

from typing import TYPE_CHECKING

from p2p.backend.actions import Tag
from p2p.backend.borrow import Borrower
from p2p.backend.fetch_context import FetchContext
from p2p.backend.lease_messages import lease_renewal
from p2p.wire.messages import LeaseRenewed, Message, Refusal

if TYPE_CHECKING:
    from p2p.backend.borrow import Grant


class Renewals:
    """Asks for more time, and takes what comes back."""

    def __init__(self, context: FetchContext) -> None:
        self._context = context
        self._open: dict[Tag, tuple[Grant, float]] = {}

    def ask(self, borrower: Borrower, now_s: float) -> None:
        """Asks a holder for more time where reads are under way and half of it is over."""
        for grant in borrower.grants:
            if grant.is_renewable(now_s, self._context.ask_timeout_s):
                request = lease_renewal(self._context, grant.token, now_s)
                grant.renewal_asked_s = now_s
                tag = self._context.desk.ask(borrower.holder, request, now_s)
                self._open[tag] = (grant, now_s)

    def waits_for(self, tag: Tag) -> bool:
        """True if the answer to a request can still help."""
        return tag in self._open

    def on_answer(self, tag: Tag, answer: Message | None) -> bool:
        """Takes a holder's answer; false if it is to another question.

        More time counts from the asking; a refusal means that nothing read from now on counts.
        """
        if tag not in self._open:
            return False
        grant, asked_s = self._open.pop(tag)
        if isinstance(answer, LeaseRenewed):
            if not grant.is_expired:
                grant.prolong(asked_s, answer.ttl_ms)
        elif isinstance(answer, Refusal):
            grant.lose()
            self._context.chunks.needs_holders = True
        return True
