"""The controller's orders at an instance: what can be done at once, and what takes time.

An order that meets chunks in use is tried again until its time is over. Fetches and drains are
handed to the reading half, which brings back what became of them. No I/O, no clock, no threads.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

from p2p.backend.index import IndexEntry
from p2p.backend.pins import Pins
from p2p.keys import ChunkKey, split_keys
from p2p.wire.messages import (
    DropAll,
    DropKeys,
    EvictKeys,
    GiveAll,
    Left,
    LeftReason,
    Order,
    OrderResult,
    PinKeys,
    TakeKeys,
    UnpinKeys,
)

if TYPE_CHECKING:
    from p2p.backend.instance import InstanceCore

_RETRY_S = 0.05
_MAX_DETAIL = 500


@dataclass(slots=True, eq=False)
class Errand:
    """An order that is being carried out.

    Attributes:
        deadline_s: what is not done by then is left.
        began_s: when it was heard of.
        waiting: chunks that could not be dropped yet; None before the first try.
        num_done: chunks for which it was done.
        left: chunks for which it will not be done, by reason.
        is_handed_over: the reading half has it.
        outcome: what came of that.
    """

    order: Order
    deadline_s: float
    began_s: float
    waiting: list[ChunkKey] | None = None
    num_done: int = 0
    left: Counter[LeftReason] = field(default_factory=Counter)
    is_handed_over: bool = False
    outcome: OrderResult | None = None

    @property
    def tenant(self) -> str:
        """Whose chunks the order is about."""
        return "" if isinstance(self.order, DropAll | GiveAll) else self.order.tenant

    def keys(self) -> list[ChunkKey]:
        """Returns the keys that the order names."""
        if isinstance(self.order, DropAll | GiveAll):
            return []
        return split_keys(self.order.keys, self.order.key_bytes)

    def result(self, detail: str = "") -> OrderResult:
        """Returns what is to be reported."""
        left = tuple(
            Left(reason=reason, num_chunks=count, detail=detail)
            for reason, count in self.left.items()
        )
        return OrderResult(id=self.order.id, num_chunks=self.num_done, left=left)


class Errands:
    """All orders of one instance that are not reported yet.

    Args:
        core: whose chunks they are about.
        pins: of that instance.

    Attributes:
        for_reader: fetches and drains that the reading half has not begun.
        has_news: something has come of those since `carry_out`.
    """

    def __init__(self, core: "InstanceCore", pins: Pins) -> None:
        self.pins = pins
        self.for_reader: deque[Errand] = deque()
        self.has_news = False
        self._core = core
        self._open: dict[int, Errand] = {}
        self._holds: list[tuple[float, list[IndexEntry]]] = []

    def carry_out(self, orders: Iterable[Order], now_s: float) -> list[OrderResult]:
        """Does what can be done of the open orders; returns what is over."""
        self.has_news = False
        self._let_go(now_s)
        known, self._open = self._open, {}
        results: list[OrderResult] = []
        for order in orders:
            deadline_s = now_s + order.ttl_ms / 1000
            errand = known.get(order.id) or Errand(order, deadline_s, now_s)
            result = self._work(errand, now_s)
            if result is None:
                self._open[order.id] = errand
            else:
                results.append(result)
        return results

    def next_deadline_s(self, now_s: float) -> float:
        """Returns when `carry_out` has something to do; chunks in use are looked at again soon."""
        if any(not errand.is_handed_over for errand in self._open.values()):
            return now_s + _RETRY_S
        return min((until_s for until_s, _ in self._holds), default=float("inf"))

    def hold(self, entries: list[IndexEntry], until_s: float) -> None:
        """Takes charge of pins that fetched chunks carry, until then."""
        self._holds.append((until_s, entries))

    def finish(self, errand: Errand, detail: str = "") -> None:
        """The reading half is through with an errand, whose numbers say what came of it."""
        errand.outcome = errand.result(detail[:_MAX_DETAIL])
        self.has_news = True

    # ------------------------------------------------------------------ parts

    def _let_go(self, now_s: float) -> None:
        self.pins.expire(now_s)
        for until_s, entries in self._holds:
            if now_s >= until_s:
                for entry in entries:
                    self._core.unpin(entry)
        self._holds = [hold for hold in self._holds if now_s < hold[0]]

    def _work(self, errand: Errand, now_s: float) -> OrderResult | None:
        order = errand.order
        problem = self._problem(order)
        if problem is not None:
            errand.left[problem] = 0
            return errand.result()
        match order:
            case DropAll() | DropKeys() | EvictKeys(heir=""):
                return self._drop(errand, now_s)
            case PinKeys():
                until_s = now_s + order.pin_ms / 1000 if order.pin_ms else float("inf")
                return self._pin(errand, until_s)
            case UnpinKeys():
                return self._unpin(errand)
            case TakeKeys() | GiveAll() | EvictKeys():
                return self._hand_over(errand, now_s)
            case _:
                assert_never(order)

    def _problem(self, order: Order) -> LeftReason | None:
        if order.namespace != self._core.namespace_id:
            return LeftReason.OTHER_NAMESPACE
        if not isinstance(order, DropAll | GiveAll) and len(order.keys) % order.key_bytes:
            return LeftReason.MALFORMED
        return None

    def _drop(self, errand: Errand, now_s: float) -> OrderResult | None:
        index = self._core.index
        if errand.waiting is None:
            errand.waiting = [entry.key for entry in self._meant(errand)]
        waiting, errand.waiting = errand.waiting, []
        for key in waiting:
            entry = index.get(key)
            if entry is None:
                continue
            if entry.num_pins:
                errand.waiting.append(key)
            else:
                self._core.drop(entry)
                errand.num_done += 1
        if errand.waiting and now_s < errand.deadline_s:
            return None
        if errand.waiting:
            errand.left[LeftReason.IN_USE] += len(errand.waiting)
        return errand.result()

    def _meant(self, errand: Errand) -> list[IndexEntry]:
        """Returns the chunks that are to be dropped, those that others follow on last."""
        index, order = self._core.index, errand.order
        match order:
            case DropAll():
                return list(index)
            case DropKeys():
                return [e for e in index.behind(errand.keys()) if e.is_readable_by(order.tenant)]
            case _:
                found = self._found(errand)
                free = [entry for entry in reversed(found) if entry.kept_until_s is None]
                if len(free) < len(found):
                    errand.left[LeftReason.PINNED] = len(found) - len(free)
                return free

    def _pin(self, errand: Errand, until_s: float) -> OrderResult:
        for entry in self._core.index.readable(errand.keys(), errand.tenant):
            if entry is None:
                errand.left[LeftReason.NOT_HERE] += 1
            elif self.pins.pin(entry, until_s):
                errand.num_done += 1
            else:
                errand.left[LeftReason.PIN_LIMIT] += 1
        is_beyond = LeftReason.PIN_LIMIT in errand.left
        return errand.result(f"at most {self.pins.num_max} chunks" if is_beyond else "")

    def _unpin(self, errand: Errand) -> OrderResult:
        for entry in self._found(errand):
            if entry.kept_until_s is not None:
                self._core.index.let_go(entry)
                errand.num_done += 1
        return errand.result()

    def _found(self, errand: Errand) -> list[IndexEntry]:
        found = self._core.index.readable(errand.keys(), errand.tenant)
        return [entry for entry in found if entry is not None]

    def _hand_over(self, errand: Errand, now_s: float) -> OrderResult | None:
        """Hands an errand to the reading half once it can begin; returns what came of it."""
        if errand.is_handed_over:
            return errand.outcome
        if self._can_begin(errand, now_s):
            errand.is_handed_over = True
            self.for_reader.append(errand)
            return None
        if now_s < errand.deadline_s:
            return None
        is_parting = isinstance(errand.order, EvictKeys)
        reason = LeftReason.NOT_AT_TARGET if is_parting else LeftReason.UNKNOWN_SOURCE
        errand.left[reason] += len(errand.keys())
        return errand.result()

    def _can_begin(self, errand: Errand, now_s: float) -> bool:
        order, membership = errand.order, self._core.membership
        if isinstance(order, TakeKeys):
            return not order.source or membership.roster.find(order.source, now_s) is not None
        if isinstance(order, EvictKeys):
            return membership.roster.find(order.heir, now_s) is not None
        # peers find in the directory what they are to take
        is_late = now_s >= (errand.began_s + errand.deadline_s) / 2
        return is_late or membership.is_advertised()
