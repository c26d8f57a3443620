"""Which chunks a reader takes first where others read the same prompt.

Readers that all read in order have the same to offer, which is nothing. So each has an order of its
own, and takes first what the fewest are known to lend: every copy leaves a holder about once, and
the readers exchange the rest. The orders are scattered: readers that went round from different
places would meet where somebody reads already, and then read the same. With half of the budget
gone, or behind time, a reader goes back to the order of the prompt, since only a prefix counts.
No I/O, no clock, no threads.
"""

from collections.abc import Sequence
from itertools import islice

from p2p.backend.chunks import WantedChunk
from p2p.backend.fetch_context import FetchContext
from p2p.backend.plan import spread

_SPREAD_OVER = 512  # chunks, from the first that is wanted on
_IN_ORDER_FROM = 0.5  # of the budget
_JUDGED_FROM = 0.125  # of the budget: how fast it goes is not known before


class Spreading:
    """The order of one fetch.

    Args:
        context: the request.

    Attributes:
        has_fellows: others are known to read the same prompt.
    """

    def __init__(self, context: FetchContext) -> None:
        self.has_fellows = False
        self._context = context
        self._places: dict[int, int] = {}  # in this reader's order, by position

    @property
    def is_long(self) -> bool:
        """True if the fetch is so much that holders send its readers to each other."""
        core = self._context.desk.instance
        return len(self._context.keys) * core.chunk_bytes >= core.hot.limits.least_bytes

    def is_on(self, now_s: float) -> bool:
        """Returns whether chunks are taken out of order."""
        if not self.has_fellows:
            return False
        context, chunks = self._context, self._context.chunks
        elapsed_s, left_s = now_s - context.started_s, context.deadline_s - now_s
        if elapsed_s >= context.budget_s * _IN_ORDER_FROM:
            return False
        if elapsed_s < context.budget_s * _JUDGED_FROM:
            return True
        return elapsed_s * (chunks.end - chunks.first) <= left_s * context.num_arrived

    def next_wanted(self) -> list[WantedChunk]:
        """Returns the wanted chunks among which the choice is."""
        return list(islice(self._context.chunks.wanted(), _SPREAD_OVER))

    def ordered(self, chunks: Sequence[WantedChunk]) -> list[WantedChunk]:
        """Returns chunks in the order in which this reader takes them."""
        return sorted(chunks, key=lambda c: (len(c.holders), self._place(c.position)))

    def _place(self, position: int) -> int:
        place = self._places.get(position)
        if place is None:
            reader = self._context.desk.instance.identity.instance
            place = self._places[position] = spread(reader, str(position))
        return place
