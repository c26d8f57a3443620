"""How many requests of each kind came, and how long some of them took. No I/O, no clock."""

from collections import defaultdict

from p2p.wire.messages import Message, RequestMetrics

NUM_BUCKETS = 24  # the last but one ends at 4 s
SAMPLED_ONE_IN = 16
_TOTAL = 64
_NS_PER_US = 1000


class HandlingTimes:
    """A count and a histogram per kind of request.

    Every lookup passes here. Reading the clock twice and filing the difference costs half a
    microsecond, so that is done for one request in 16 of each kind, beginning with the first.
    """

    def __init__(self) -> None:
        self._num_by_kind: defaultdict[type[Message], int] = defaultdict(int)
        self._cells_by_kind: dict[type[Message], list[int]] = {}

    def count(self, kind: type[Message]) -> bool:
        """Counts one request; returns whether its time is to be noted."""
        num = self._num_by_kind[kind] + 1
        self._num_by_kind[kind] = num
        return num % SAMPLED_ONE_IN == 1

    def note(self, kind: type[Message], elapsed_ns: int) -> None:
        """Notes the time of one request, 0 to 2**63 ns."""
        cells = self._cells_by_kind.setdefault(kind, [0] * (_TOTAL + 1))
        cells[(elapsed_ns // _NS_PER_US).bit_length()] += 1
        cells[_TOTAL] += elapsed_ns

    def metrics(self) -> tuple[RequestMetrics, ...]:
        """Returns all that was noted, in the order of the kinds' names."""
        by_name = sorted(self._cells_by_kind.items(), key=lambda item: item[0].__name__)
        return tuple(
            RequestMetrics(
                kind=kind.__name__,
                num=self._num_by_kind[kind],
                num_by_bucket=(*cells[: NUM_BUCKETS - 1], sum(cells[NUM_BUCKETS - 1 : _TOTAL])),
                total_ns=cells[_TOTAL],
            )
            for kind, cells in by_name
        )
