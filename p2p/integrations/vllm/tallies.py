"""What an instance counts, by the names under which vLLM's ``/metrics`` shows it. Pure values."""

from collections import Counter
from collections.abc import Mapping

COUNTERS = {
    "lookups": "Requests that were looked for at peers",
    "lookups_restarted": "Lookups begun anew, since the engine had lost blocks meanwhile",
    "external_tokens": "Tokens loaded instead of computed",
    "fetched_chunks": "Chunks that came from peers",
    "saved_chunks": "Computed chunks that were copied into the pool",
    "load_bytes": "Bytes copied out of the pool into the engine's blocks",
    "load_us": "Microseconds that took, over all workers",
    "save_bytes": "Bytes copied out of the engine's blocks into the pool",
    "save_us": "Microseconds that took, over all workers",
    "load_failures": "Loads that did not reach the engine's blocks, and were recomputed",
    "preemptions": "Requests that gave their blocks away",
}
COUNTERS_BY_REASON = {
    "lookups_ended": "Lookups by what ended them",
    "chunks_not_saved": "Computed chunks that were not saved, by why",
    "requests_refused": "Requests for which nothing can be shared, by why",
    "unexpected": "Reports of workers that fit to nothing",
}
FETCH_SECONDS = "fetch_seconds"
FETCH_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Growth:
    """What counters have grown by since the last time."""

    def __init__(self) -> None:
        self._known: Counter[str] = Counter()

    def take(self, counters: Mapping[str, int]) -> dict[str, int]:
        """Returns the growth of those that have grown."""
        grown = {
            name: number - self._known[name]
            for name, number in counters.items()
            if number != self._known[name]
        }
        self._known.update(grown)
        return grown


def add_up(ours: Mapping[str, int], theirs: Mapping[str, int]) -> dict[str, int]:
    """Returns the sums of two sets of counts."""
    return dict(Counter(ours) + Counter(theirs))


def by_reason(name: str) -> tuple[str, str]:
    """Returns the counter and the reason of ``counter/reason``; an empty reason without one."""
    counter, _, reason = name.partition("/")
    return counter, reason
