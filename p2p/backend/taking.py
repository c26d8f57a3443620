"""Fetches for others: what peers asked us to take over, and what the controller ordered.

Each is a fetch like any other, at the cost of older chunks only; its outcome is the answer. What
nobody waits for here is unpinned at once. No I/O, no clock, no threads.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from p2p.backend.actions import FetchOutcome, ShortReason
from p2p.backend.fetch_context import Behalf
from p2p.backend.instance import InstanceCore
from p2p.keys import split_keys
from p2p.wire.messages import EvictKeys, GiveAll, LeftReason, TakeKeys

if TYPE_CHECKING:
    from p2p.backend.errands import Errand
    from p2p.backend.fetch import Fetch
    from p2p.backend.giving import Giving
    from p2p.backend.plea import Plea
    from p2p.backend.reader import ReaderCore

_LEAST_BUDGET_S = 0.01
_MAX_BATCHES = 1024
_LEFT_BY_SHORT = {ShortReason.POOL_FULL: LeftReason.NO_ROOM, ShortReason.CLOSED: LeftReason.CLOSING}


class Taking:
    """All fetches of one instance that are for others.

    Args:
        reader: fetches.
        giving: carries out drains.

    Attributes:
        marks: the use of chunks at which a peer's batch of pleas began.
    """

    def __init__(self, reader: "ReaderCore", giving: "Giving") -> None:
        self.marks: dict[tuple[str, int, int], int] = {}
        self._reader = reader
        self._giving = giving
        self._then: dict[int, tuple[Fetch, Callable[[FetchOutcome], None]]] = {}

    @property
    def _instance(self) -> InstanceCore:
        return self._reader.instance

    def on_time(self, now_s: float) -> None:
        """Begins what was asked for."""
        while self._instance.pleas:
            self._begin_plea(self._instance.pleas.popleft(), now_s)
        for_reader = self._instance.errands.for_reader
        while for_reader:
            self._begin_errand(for_reader.popleft(), now_s)

    def settle(self, fetch: "Fetch") -> None:
        """A fetch may have its outcome."""
        if fetch.outcome is None or id(fetch) not in self._then:
            return
        _, then = self._then.pop(id(fetch))
        then(fetch.outcome)

    # ------------------------------------------------------------------ parts

    def _begin_plea(self, plea: "Plea", now_s: float) -> None:
        request = plea.request
        keys = split_keys(request.keys, request.key_bytes)
        budget_s = max(plea.deadline_s - now_s, _LEAST_BUDGET_S)
        before = self._mark_of((request.instance, request.incarnation, request.batch))
        fetch = self._reader.submit(keys, request.tenant, budget_s, now_s, Behalf(before))
        self._wait(fetch, lambda outcome: self._answer_plea(plea, outcome))

    def _answer_plea(self, plea: "Plea", outcome: FetchOutcome) -> None:
        self._unpin(outcome)
        is_full = outcome.reason is ShortReason.POOL_FULL
        self._instance.answer_plea(plea, len(outcome.entries), is_full=is_full)

    def _begin_errand(self, errand: "Errand", now_s: float) -> None:
        order = errand.order
        if isinstance(order, TakeKeys):
            self._begin_take(errand, order, now_s)
        elif isinstance(order, EvictKeys):
            self._reader.partings.begin(errand, order, now_s)
        elif isinstance(order, GiveAll):
            self._giving.drain(errand.deadline_s, now_s, errand)

    def _begin_take(self, errand: "Errand", order: TakeKeys, now_s: float) -> None:
        source = None
        if order.source:
            source = self._instance.membership.roster.find(order.source, now_s)
        behalf = Behalf(self._instance.index.num_uses, source)
        budget_s = max(errand.deadline_s - now_s, _LEAST_BUDGET_S)
        fetch = self._reader.submit(errand.keys(), order.tenant, budget_s, now_s, behalf)
        until_s = now_s + order.hold_ms / 1000
        self._wait(fetch, lambda outcome: self._end_take(errand, order, until_s, outcome))

    def _end_take(
        self, errand: "Errand", order: TakeKeys, until_s: float, outcome: FetchOutcome
    ) -> None:
        errand.num_done = len(outcome.entries)
        num_left = len(order.keys) // order.key_bytes - errand.num_done
        detail = ""
        if num_left:
            errand.left[_LEFT_BY_SHORT.get(outcome.reason, LeftReason.FETCH_SHORT)] = num_left
            detail = f"{outcome.reason.value}: {outcome.detail}"
        if order.hold_ms and not num_left:
            self._instance.errands.hold(list(outcome.entries), until_s)
        else:
            self._unpin(outcome)
        self._instance.errands.finish(errand, detail)

    def _wait(self, fetch: "Fetch", then: Callable[[FetchOutcome], None]) -> None:
        self._then[id(fetch)] = (fetch, then)
        self.settle(fetch)

    def _unpin(self, outcome: FetchOutcome) -> None:
        for entry in outcome.entries:
            self._instance.unpin(entry)

    def _mark_of(self, batch: tuple[str, int, int]) -> int:
        mark = self.marks.setdefault(batch, self._instance.index.num_uses)
        while len(self.marks) > _MAX_BATCHES:
            del self.marks[next(iter(self.marks))]
        return mark
