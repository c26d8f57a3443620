"""Orders to instances, and the people who wait for them to be carried out. No I/O, no clock.

An order is given in the answers to an instance's heartbeats until it is reported. When whoever
asked has been answered, what is still open is taken back: who has not heard of it never does.
"""

import itertools
from collections import Counter
from collections.abc import Iterable

import msgspec

from p2p.wire.exchange import Outgoing
from p2p.wire.messages import (
    MAX_ORDERS,
    Deed,
    DropAll,
    DropKeys,
    EvictKeys,
    GiveAll,
    LeftReason,
    Order,
    OrderResult,
)
from p2p_controller.members import Given, Member
from p2p_controller.operation import Operation

_IDS_PER_EPOCH = 1 << 20
_MAX_LISTED_BYTES = 2 << 20
_REPORT_S = 0.3
_Drop = DropAll | DropKeys | EvictKeys


class Orders:
    """Gives orders and answers whoever asked for them.

    Args:
        epoch: makes ids that no other start of a controller gave.
        counters: of everything unusual.
    """

    def __init__(self, epoch: int, counters: Counter[str]) -> None:
        self._ids = itertools.count(epoch % (1 << 42) * _IDS_PER_EPOCH + 1)
        self._counters = counters
        self._operations: list[Operation] = []

    def begin(self, operation: Operation) -> None:
        """Takes an operation in; orders are given to it afterwards, within the same call."""
        self._operations.append(operation)

    def give(self, operation: Operation, member: Member, order: Order, did: Deed) -> None:
        """Gives a member an order, whose number and time are filled in here."""
        if member.is_silent:
            operation.fail(member.instance, did, LeftReason.SILENT)
        elif len(member.orders) >= MAX_ORDERS:
            self._counters["orders_refused"] += 1
            operation.fail(member.instance, did, LeftReason.TOO_MANY_ORDERS)
        else:
            order = msgspec.structs.replace(order, id=next(self._ids))
            member.orders[order.id] = Given(order, operation.deadline_s)
            operation.by_order[order.id] = (member.instance, did)

    def report(self, member: Member, results: Iterable[OrderResult]) -> None:
        """Notes what a member says it has done."""
        for result in results:
            if member.orders.pop(result.id, None) is None:
                self._counters["orders_reported_again"] += 1
                continue
            for operation in self._operations:
                operation.finish(result)

    def on_gone(self, member: Member) -> None:
        """A member left or was replaced by a new start: its chunks are gone with it."""
        for order in [given.order for given in member.orders.values()]:
            is_done = isinstance(order, _Drop)
            for operation in self._operations:
                if is_done:
                    operation.finish(OrderResult(id=order.id))
                else:
                    operation.fail_order(order.id, LeftReason.GONE)
        member.orders.clear()

    def on_silent(self, member: Member) -> None:
        """A member is not heard any more: nobody waits for it, and its orders are taken back."""
        for order_id in member.orders:
            for operation in self._operations:
                operation.fail_order(order_id, LeftReason.SILENT)
        member.orders.clear()

    def answers(self, now_s: float, members: Iterable[Member]) -> list[Outgoing]:
        """Returns the answers that are due; each is returned once."""
        if not self._operations:
            return []
        for operation in self._operations:
            is_next = not operation.by_order and operation.is_complete
            if is_next and operation.then is not None and now_s < operation.deadline_s:
                then, operation.then = operation.then, None
                then()
        due = [o for o in self._operations if not o.by_order or now_s >= o.deadline_s]
        self._operations = [o for o in self._operations if o not in due]
        stale = {order_id for operation in due for order_id in operation.by_order}
        if stale:
            self._take_back(stale, members)
        return [operation.answer() for operation in due]

    def next_deadline_s(self) -> float:
        """Returns when the next sender has waited long enough."""
        return min((o.deadline_s for o in self._operations), default=float("inf"))

    def _take_back(self, order_ids: set[int], members: Iterable[Member]) -> None:
        self._counters["orders_taken_back"] += len(order_ids)
        for member in members:
            for order_id in order_ids & member.orders.keys():
                del member.orders[order_id]


def listed(given: Iterable[Given], now_s: float) -> tuple[Order, ...]:
    """Returns the orders that fit into one answer, oldest first; one at least.

    Each has the time that is left, less what its report takes to come back.
    """
    found: list[Order] = []
    num_bytes = 0
    for one in given:
        order = one.order
        num_bytes += 0 if isinstance(order, DropAll | GiveAll) else len(order.keys)
        if found and (num_bytes > _MAX_LISTED_BYTES or len(found) == MAX_ORDERS):
            break
        left_s = max(0.0, one.deadline_s - now_s)
        ttl_ms = int(1000 * max(left_s / 2, left_s - _REPORT_S))
        found.append(msgspec.structs.replace(order, ttl_ms=ttl_ms))
    return tuple(found)
