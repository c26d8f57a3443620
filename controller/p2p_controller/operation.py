"""One operation that people asked for: which orders are open, and what was reported. No I/O."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from p2p.wire.exchange import Outgoing, Sender
from p2p.wire.messages import Deed, InstanceReport, Left, LeftReason, OperationReply, OrderResult

_MAX_COUNT = 1 << 62
Reported: TypeAlias = dict[tuple[str, Deed], InstanceReport]


@dataclass(slots=True, eq=False)
class Operation:
    """Somebody waits for instances to do something.

    Attributes:
        sender: who.
        kind: of the answer.
        deadline_s: when it is given at the latest.
        then: called when everything has been done so far, to give further orders.
        num_unheld: chunks that nobody holds and that should have been somewhere.
        by_order: instance and deed of the open orders.
        reported: what came back.
    """

    sender: Sender
    kind: type[OperationReply]
    deadline_s: float
    then: Callable[[], None] | None = None
    num_unheld: int = 0
    by_order: dict[int, tuple[str, Deed]] = field(default_factory=dict)
    reported: Reported = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """True if nothing was left undone so far."""
        return not any(report.left for report in self.reported.values())

    def note(self, instance: str, did: Deed, num_chunks: int, left: tuple[Left, ...]) -> None:
        """Takes what an instance did."""
        self.reported[instance, did] = InstanceReport(
            instance=instance, did=did, num_chunks=min(max(num_chunks, 0), _MAX_COUNT), left=left
        )

    def fail(self, instance: str, did: Deed, reason: LeftReason, num_chunks: int = 0) -> None:
        """Nothing is to be expected of an instance."""
        self.note(instance, did, 0, (Left(reason=reason, num_chunks=num_chunks),))

    def finish(self, result: OrderResult) -> None:
        """Takes the report of an order, if it is one of these."""
        asked = self.by_order.pop(result.id, None)
        if asked is not None:
            self.note(*asked, result.num_chunks, result.left)

    def fail_order(self, order_id: int, reason: LeftReason) -> None:
        """No report will come of an order, if it is one of these."""
        asked = self.by_order.pop(order_id, None)
        if asked is not None:
            self.fail(*asked, reason)

    def answer(self) -> Outgoing:
        """Returns the answer as of now; who has not reported is named in it."""
        for order_id in list(self.by_order):
            self.fail_order(order_id, LeftReason.NO_REPORT)
        if self.then is not None and self.is_complete:
            late = Left(reason=LeftReason.TIME_OVER, detail="what comes next was not begun")
            for instance, did in self.reported:
                num_chunks = self.reported[instance, did].num_chunks
                self.note(instance, did, num_chunks, (late,))
        reports = tuple(self.reported[name] for name in sorted(self.reported, key=_by_name))
        return Outgoing(self.sender, self.kind(reports=reports, num_unheld=self.num_unheld))


def _by_name(asked: tuple[str, Deed]) -> tuple[str, str]:
    return asked[0], asked[1].value
