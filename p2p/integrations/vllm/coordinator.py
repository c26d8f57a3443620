"""The scheduler's half of the connector, without vLLM: lookups, loads and saves of all requests.

One caller at a time, the scheduler's thread. No I/O, no threads; what takes long is the fabric's.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from p2p.integrations.vllm.fabric import Fabric
from p2p.integrations.vllm.lookups import Lookup, Lookups, Wanted
from p2p.integrations.vllm.orders import LoadOrder, PoolOrder, RankReport, SaveOrder, StepOrders
from p2p.integrations.vllm.prefill import PrefillTimer
from p2p.integrations.vllm.saves import SaveLimits, Saves
from p2p.integrations.vllm.summary import Summary, summary_of

if TYPE_CHECKING:
    from p2p.backend import FetchResult

_NO_BLOCK = -1  # leaves a block of a chunk alone (`p2p.kernels.SKIP_BLOCK`)


@dataclass(frozen=True, slots=True)
class Sharing:
    """What the coordinator goes by.

    Attributes:
        block_tokens: of the engine's blocks.
        chunk_tokens: of chunks.
        num_ranks: workers of the instance.
        budget_s: of a lookup.
        pool: where the workers find it.
        save_backlog_chunks: chunks that may be on their way into the pool.
        num_kept_back: tokens at the end that the engine must compute in any case: 1 if chunks are
            loaded within a step, 0 if before it.
    """

    block_tokens: int
    chunk_tokens: int
    num_ranks: int
    budget_s: float
    pool: PoolOrder
    save_backlog_chunks: int
    num_kept_back: int = 0


@dataclass(frozen=True, slots=True)
class Computed:
    """A request of which a step computes some tokens.

    Attributes:
        request: with the keys of what is known of it.
        num_before: tokens whose KV is there before the step.
        num_after: tokens whose KV is there after it.
        blocks: of the request, in token order.
    """

    request: Wanted
    num_before: int
    num_after: int
    blocks: Sequence[int]


class Work(NamedTuple):
    """How much a step computes.

    Attributes:
        num_prompt_tokens: tokens of prompts.
        num_tokens: with those of answers.
    """

    num_prompt_tokens: int = 0
    num_tokens: int = 0


_NO_WORK = Work()


@dataclass(frozen=True, slots=True)
class Ending:
    """What vLLM is told when a request ends.

    Attributes:
        is_kept: its blocks are still read; a worker reports when they are not.
        summary: what was shared of it; None if it was not looked for.
    """

    is_kept: bool
    summary: Summary | None


class Coordinator:
    """Decides for all ranks of one instance.

    Args:
        fabric: does what is decided.
        sharing: see there.
        clock: in seconds.

    Attributes:
        counters: of everything done and everything unusual; ``name/reason`` where there are some.
        fetch_seconds: that each lookup took, for who takes them out.
    """

    def __init__(self, fabric: Fabric, sharing: Sharing, clock: Callable[[], float]) -> None:
        self._fabric = fabric
        self._sharing = sharing
        self._clock = clock
        self._prefill = PrefillTimer()
        self.counters: Counter[str] = Counter()
        self.fetch_seconds: deque[float] = deque(maxlen=4096)
        self._lookups = Lookups(
            fabric, sharing.chunk_tokens, sharing.budget_s, clock, self.counters
        )
        self._per_chunk = sharing.chunk_tokens // sharing.block_tokens
        limits = SaveLimits(self._per_chunk, sharing.num_ranks, sharing.save_backlog_chunks)
        self._saves = Saves(fabric, limits, self.counters)
        self._num_computed_by_request: dict[str, int] = {}
        self._loading: dict[str, FetchResult] = {}
        self._num_loaded: Counter[str] = Counter()
        self._loads: list[LoadOrder] = []
        self._awaited: list[str] = []
        self._has_waited = False
        self._summaries: dict[str, Summary] = {}

    @property
    def num_open(self) -> int:
        """Lookups, loads and saves that are not over."""
        return len(self._lookups) + len(self._loading) + self._saves.num_chunks_under_way

    def arrive(self, request: Wanted, num_local: int) -> None:
        """A request is there, of which the engine has ``num_local`` tokens: look for the rest."""
        self._lookups.begin(request, num_local)

    def ask(self, request: Wanted, num_computed: int, patience_s: float = 0.0) -> int | None:
        """Returns how many tokens behind ``num_computed`` can be loaded; None: ask again.

        Args:
            request: that vLLM would like to schedule.
            num_computed: leading tokens that the engine has.
            patience_s: waits for the answer so long; once in a step at most.
        """
        num_external = self._lookups.ask(request, num_computed, self._patience_left(patience_s))
        if num_external is None:
            return None
        most = request.num_tokens - self._sharing.num_kept_back
        most = most // self._sharing.block_tokens * self._sharing.block_tokens
        self._num_computed_by_request[request.id] = num_computed
        return max(0, min(num_external, most - num_computed))

    def allocate(self, request_id: str, blocks: Sequence[int], num_external: int) -> None:
        """A request has blocks for what was found: its load starts with this step's orders.

        Args:
            request_id: vLLM's.
            blocks: all of the request, in token order.
            num_external: tokens to load; 0 ends the lookup.
        """
        lookup = self._lookups.take(request_id)
        num_computed = self._num_computed_by_request.pop(request_id, 0)
        if lookup is None:
            return
        self._note(request_id, lookup, num_external)
        if lookup.result is None:
            return
        if num_external == 0:
            lookup.result.release()
            return
        self._loading[request_id] = lookup.result
        loaded = range(num_computed, num_computed + num_external)
        self._loads.append(self._load_order(request_id, lookup, loaded, blocks))

    def num_from_own_pool(self, request_id: str, num_external: int) -> int:
        """Returns how many of a request's loaded tokens came from this instance's own pool."""
        summary = self._summaries.get(request_id)
        local = summary.local_chunks * self._sharing.chunk_tokens if summary else 0
        return min(local, num_external)

    def step(
        self, computed: Iterable[Computed], preempted: Iterable[str], work: Work = _NO_WORK
    ) -> StepOrders:
        """Returns what the workers have to do in this step, of which ``work`` is measured."""
        self._saves.settle()
        self._has_waited = False
        loads, self._loads = tuple(self._loads), []
        awaited, self._awaited = tuple(self._awaited), []
        saves = tuple(order for each in computed for order in self._save_orders(each))
        given_away = tuple(preempted)
        self.counters["preemptions"] += len(given_away)
        return StepOrders(
            loads=loads,
            saves=saves,
            preempted=given_away,
            awaited=awaited,
            pool=self._sharing.pool if loads or saves else None,
            timed=self._timed(work, loads),
        )

    def loaded(self, request_ids: Iterable[str]) -> None:
        """All ranks are through with these loads: the pool may evict the chunks again."""
        for request_id in request_ids:
            result = self._loading.pop(request_id, None)
            if result is None:
                self.counters["unexpected/load_confirmation"] += 1
            else:
                result.release()

    def report(self, report: RankReport) -> None:
        """Ranks tell what became of orders."""
        for done in report.saves:
            self._saves.confirm(done)
        for request_id in report.loads:
            self._confirm_load(request_id)
        for number in report.timed:
            measured = self._prefill.ended(number, self._clock())
            if measured is not None:
                self._fabric.report_prefill(measured.num_tokens, measured.seconds)
        self.counters["load_failures"] += report.num_load_failures
        self.counters["load_us"] += round(report.load_s * 1e6)
        self.counters["save_us"] += round(report.save_s * 1e6)
        self.counters["load_bytes"] += report.load_bytes
        self.counters["save_bytes"] += report.save_bytes

    def finish(self, request_id: str) -> Ending:
        """A request has ended, by itself or not, wherever it was."""
        self._lookups.drop(request_id)
        self._num_computed_by_request.pop(request_id, None)
        is_kept = self._saves.is_outstanding(request_id)
        if is_kept:
            self._awaited.append(request_id)
        return Ending(is_kept, self._summaries.pop(request_id, None))

    def _timed(self, work: Work, loads: Sequence[LoadOrder]) -> int:
        """Returns the number of a step that tells how fast prompts are computed; 0 for others."""
        is_loading = bool(loads) and self._sharing.num_kept_back > 0
        if is_loading:
            return 0
        return self._prefill.began(work.num_prompt_tokens, work.num_tokens, self._clock())

    def _confirm_load(self, request_id: str) -> None:
        """One rank is through with a load within a step."""
        self._num_loaded[request_id] += 1
        if self._num_loaded[request_id] >= self._sharing.num_ranks:
            del self._num_loaded[request_id]
            self.loaded([request_id])

    def _patience_left(self, patience_s: float) -> float:
        left_s = 0.0 if self._has_waited else patience_s
        self._has_waited = self._has_waited or patience_s > 0
        return left_s

    def _save_orders(self, computed: Computed) -> list[SaveOrder]:
        keys, per_chunk = computed.request.keys, self._sharing.chunk_tokens
        first = computed.num_before // per_chunk
        end = min(computed.num_after // per_chunk, len(keys))
        if first >= end:
            return []
        chunks = range(first, end)
        return self._saves.order(computed.request.id, keys, chunks, computed.blocks)

    def _load_order(
        self, request_id: str, lookup: Lookup, loaded: range, blocks: Sequence[int]
    ) -> LoadOrder:
        block_tokens = self._sharing.block_tokens
        wanted = range(loaded.start // block_tokens, -(-loaded.stop // block_tokens))
        first = loaded.start // self._sharing.chunk_tokens
        end = -(-loaded.stop // self._sharing.chunk_tokens)
        numbers = range(first * self._per_chunk, end * self._per_chunk)
        slots = lookup.result.slots if lookup.result else ()
        return LoadOrder(
            request=request_id,
            slots=slots[first - lookup.first : end - lookup.first],
            blocks=tuple(blocks[each] if each in wanted else _NO_BLOCK for each in numbers),
        )

    def _note(self, request_id: str, lookup: Lookup, num_external: int) -> None:
        if lookup.result is None:
            return
        self._summaries[request_id] = summary_of(lookup.result, num_external)
        self.fetch_seconds.append(lookup.result.seconds)
        self.counters["external_tokens"] += num_external
        self.counters["fetched_chunks"] += lookup.result.num_chunks - lookup.result.num_local
        self.counters[f"lookups_ended/{lookup.result.reason.value}"] += 1
