"""Orders to instances, and the people who wait for them to be carried out. No I/O, no clock."""

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from p2p.wire.exchange import Outgoing, Sender
from p2p.wire.messages import Cleared, Order
from p2p_controller.members import Member

MAX_ORDERS = 64
_IDS_PER_EPOCH = 1 << 20
_MAX_COUNT = 1 << 62


@dataclass(slots=True, eq=False)
class _Clearing:
    sender: Sender
    deadline_s: float
    instance_by_order: dict[int, str]
    missing: list[str]
    num_by_instance: dict[str, int] = field(default_factory=dict)

    def answer(self) -> Outgoing:
        missing = tuple(sorted([*self.missing, *self.instance_by_order.values()]))
        return Outgoing(
            self.sender, Cleared(num_chunks_by_instance=self.num_by_instance, missing=missing)
        )


class Orders:
    """Gives orders and answers whoever asked for them.

    Args:
        epoch: makes ids that no other start of a controller gave.
        counters: of everything unusual.
    """

    def __init__(self, epoch: int, counters: Counter[str]) -> None:
        self._ids = itertools.count(epoch % (1 << 42) * _IDS_PER_EPOCH + 1)
        self._counters = counters
        self._clearings: list[_Clearing] = []

    def clear(
        self, sender: Sender, members: Iterable[Member], unreachable: list[str], deadline_s: float
    ) -> None:
        """Orders members to drop their chunks; the sender is answered when all have."""
        clearing = _Clearing(sender, deadline_s, {}, unreachable)
        for member in members:
            order = Order(id=next(self._ids), namespace=member.namespace_id)
            member.orders[order.id] = order
            clearing.instance_by_order[order.id] = member.instance
            if len(member.orders) > MAX_ORDERS:
                del member.orders[next(iter(member.orders))]
                self._counters["orders_dropped"] += 1
        self._clearings.append(clearing)

    def report(self, member: Member, done: Iterable[tuple[int, int]]) -> None:
        """Notes what a member says it has done, with the number of chunks."""
        for order_id, num_chunks in done:
            if member.orders.pop(order_id, None) is None:
                self._counters["orders_reported_again"] += 1
            else:
                self._finish(order_id, min(max(num_chunks, 0), _MAX_COUNT))

    def on_gone(self, member: Member) -> None:
        """A member left or was replaced by a new start: its chunks are gone with it."""
        for order_id in member.orders:
            self._finish(order_id, 0)
        member.orders.clear()

    @property
    def is_awaited(self) -> bool:
        """True if somebody waits for orders to be carried out."""
        return bool(self._clearings)

    def answers(self, now_s: float) -> list[Outgoing]:
        """Returns the answers that are due; each is returned once."""
        due = [c for c in self._clearings if not c.instance_by_order or now_s >= c.deadline_s]
        self._clearings = [c for c in self._clearings if c not in due]
        return [clearing.answer() for clearing in due]

    def next_deadline_s(self) -> float:
        """Returns when the next sender has waited long enough."""
        return min((c.deadline_s for c in self._clearings), default=float("inf"))

    def _finish(self, order_id: int, num_chunks: int) -> None:
        for clearing in self._clearings:
            instance = clearing.instance_by_order.pop(order_id, None)
            if instance is not None:
                clearing.num_by_instance[instance] = num_chunks
