"""What is read twice at the same time, counted apart from what the production code counts."""

import math
from typing import TYPE_CHECKING

from p2p.backend.fetch import Fetch
from p2p.backend.readings import Reading
from tests.sim.clock import require

if TYPE_CHECKING:
    from p2p.backend.fetch_context import FetchContext


class Hedges:
    """The chunks of fetches that were read again while another read of them went on."""

    def __init__(self) -> None:
        self._num_by_fetch: dict[Fetch, int] = {}

    def on_read(self, fetch: Fetch, reading: Reading) -> None:
        """A read starts: what it reads twice must stay within what a fetch may read twice."""
        elsewhere = positions_under_way(fetch, before=reading.read_id)
        num_twice = len(elsewhere.intersection(reading.positions))
        if not num_twice:
            return
        context: FetchContext = fetch._context
        num = self._num_by_fetch.get(fetch, 0) + num_twice
        self._num_by_fetch[fetch] = num
        is_within = num <= context.limits.hedge_share * len(context.keys)
        require(is_within, f"more was read twice than a fetch may: {num} of {len(context.keys)}")


def positions_under_way(fetch: Fetch, before: float = math.inf) -> set[int]:
    """Returns the chunks that reads of a fetch may still bring, of all or of the earlier ones."""
    readings = [r for r in fetch._readings._readings.values() if r.is_under_way]
    return {p for reading in readings if reading.read_id < before for p in reading.positions}
