"""Requests whose KV is looked for: decides what vLLM is told about each. No I/O, no threads.

A lookup brings the chunks into the pool as well, before vLLM gives the request any blocks: what it
is then told is there, verified and pinned. So a peer that fails costs a shorter answer within the
budget, and never blocks of the engine, nor a load that has to be taken back.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from p2p.backend import FetchResult, Handle
from p2p.integrations.vllm.fabric import Fabric
from p2p.keys import ChunkKey

_MAX_RESTARTS = 3
_GRACE_S = 1.0  # beyond the budget; a fetch that is later than that is given up


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request as the coordinator sees it.

    Attributes:
        id: vLLM's.
        keys: of all its full chunks, in order.
        num_tokens: of it so far, prompt and answer.
    """

    id: str
    keys: Sequence[ChunkKey]
    num_tokens: int


@dataclass(slots=True)
class Lookup:
    """One request's.

    Attributes:
        first: number of the first chunk that is looked for.
        begun_s: when.
        handle: of the fetch; None if there is nothing to look for.
        result: once it is there.
        is_given_up: it took too long.
        num_restarts: since the engine lost blocks that it had at first.
    """

    first: int
    begun_s: float
    handle: Handle[FetchResult] | None
    result: FetchResult | None = None
    is_given_up: bool = False
    num_restarts: int = 0

    @property
    def end(self) -> int:
        """Number of the chunk behind the last one that is in the pool."""
        return self.first + (self.result.num_chunks if self.result else 0)


class Lookups:
    """All of an instance's.

    Args:
        fabric: to ask.
        chunk_tokens: tokens of a chunk.
        budget_s: of one lookup.
        clock: in seconds.
        counters: of what was decided.
    """

    def __init__(
        self,
        fabric: Fabric,
        chunk_tokens: int,
        budget_s: float,
        clock: Callable[[], float],
        counters: Counter[str],
    ) -> None:
        self._fabric = fabric
        self._chunk_tokens = chunk_tokens
        self._budget_s = budget_s
        self._clock = clock
        self._counters = counters
        self._lookup_by_request: dict[str, Lookup] = {}

    def __len__(self) -> int:
        return len(self._lookup_by_request)

    def begin(self, request: Wanted, num_computed: int, num_restarts: int = 0) -> Lookup:
        """Starts to look for the chunks of a request behind its first ``num_computed`` tokens."""
        first = num_computed // self._chunk_tokens
        keys = request.keys[first:]
        handle = self._fabric.begin_fetch(keys, self._budget_s, request.id) if keys else None
        self._counters["lookups"] += handle is not None
        lookup = Lookup(first, self._clock(), handle, num_restarts=num_restarts)
        self._lookup_by_request[request.id] = lookup
        return lookup

    def ask(self, request: Wanted, num_computed: int, patience_s: float = 0.0) -> int | None:
        """Returns how many tokens behind the first ``num_computed`` are in the pool.

        None if that is not known within ``patience_s``: vLLM asks again at its next step. The same
        answer is given until `take` or `drop`.
        """
        lookup = self._lookup_by_request.get(request.id) or self.begin(request, num_computed)
        if patience_s and lookup.handle is not None and not self._is_over(lookup):
            lookup.handle.wait(patience_s)
        if not self._is_over(lookup):
            return None
        first = num_computed // self._chunk_tokens
        if first < lookup.first and lookup.num_restarts < _MAX_RESTARTS:
            self._counters["lookups_restarted"] += 1
            self.drop(request.id)
            self._is_over(self.begin(request, num_computed, lookup.num_restarts + 1))
            return None
        if first < lookup.first:
            return 0
        return max(0, lookup.end * self._chunk_tokens - num_computed)

    def take(self, request_id: str) -> Lookup | None:
        """Returns a lookup that is over; its result belongs to the caller."""
        lookup = self._lookup_by_request.pop(request_id, None)
        if lookup is not None and lookup.result is None and lookup.handle is not None:
            self._fabric.abandon(lookup.handle)
        return lookup

    def drop(self, request_id: str) -> None:
        """Nobody wants a request's chunks any more."""
        lookup = self.take(request_id)
        if lookup is not None and lookup.result is not None:
            lookup.result.release()

    def _is_over(self, lookup: Lookup) -> bool:
        if lookup.handle is None or lookup.result is not None or lookup.is_given_up:
            return True
        lookup.result = lookup.handle.poll()
        if lookup.result is not None:
            return True
        if self._clock() < lookup.begun_s + self._budget_s + _GRACE_S:
            return False
        self._counters["lookups_ended/given_up"] += 1
        lookup.is_given_up = True
        return True
