"""The connector in vLLM's scheduler process: the backend, and the coordinator over it."""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from vllm.config import VllmConfig
from vllm.distributed.kv_events import KVCacheEvent
from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorStats
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.metrics.cache_hit_source import CacheHitSource

from p2p.backend import P2PBackend
from p2p.integrations.vllm import describe
from p2p.integrations.vllm.coordinator import Computed, Coordinator, Sharing, Work
from p2p.integrations.vllm.fabric import BackendFabric
from p2p.integrations.vllm.identity import refuse_shapes
from p2p.integrations.vllm.kv_events import PoolEvents
from p2p.integrations.vllm.lookups import Wanted
from p2p.integrations.vllm.metrics import stats_of
from p2p.integrations.vllm.orders import PoolOrder, RankReport, RankShape, StepOrders
from p2p.integrations.vllm.settings import ConnectorConfig, backend_config
from p2p.integrations.vllm.tallies import Growth
from p2p.keys import ChunkKey

if TYPE_CHECKING:
    from vllm.v1.core.block_pool import BlockPool
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request

logger = logging.getLogger(__name__)
_IDLE = StepOrders()
_PATIENCE_S = 0.002  # where no request runs, empty steps would take the interpreter from the fetch


class SchedulerSide:
    """The coordinator of one instance, or what stands in for it where nothing can be shared.

    Args:
        config: vLLM's.
        caches: vLLM's description of the KV cache.
        settings: the connector's.
        backend_settings: the backend's, as the user wrote them.
    """

    def __init__(
        self,
        config: VllmConfig,
        caches: KVCacheConfig,
        settings: ConnectorConfig,
        backend_settings: Mapping[str, object],
    ) -> None:
        self._config = config
        self._caches = caches
        self._settings = settings
        self._backend_settings = backend_settings
        self._backend: P2PBackend | None = None
        self._fabric: BackendFabric | None = None
        self._coordinator: Coordinator | None = None
        self._requests: dict[str, Request] = {}
        self._kept: set[str] = set()
        self._refused: Counter[str] = Counter()
        self._growth = Growth()
        self._blocks_per_chunk = 1
        self._chunk_tokens = 1
        self._events: PoolEvents | None = None
        self.refusal = describe.refusal(config, caches)
        self.block_pool: BlockPool | None = None

    @property
    def has_kept_blocks(self) -> bool:
        """Whether blocks of ended requests wait for their saves."""
        return bool(self._kept)

    def start(self, shapes: list[RankShape]) -> None:
        """Starts sharing.

        Args:
            shapes: what the workers were given, in order of ranks.

        Raises:
            ConfigError: a bad setting. What merely cannot be shared is a logged refusal.
        """
        self.refusal = self.refusal or next((each.refusal for each in shapes if each.refusal), "")
        if not self.refusal:
            self._start(shapes)
        if self.refusal:
            logger.warning("no KV is shared by this instance: %s", self.refusal)

    def arrive(self, request: "Request") -> None:
        """A request is new: looks for what the engine does not have."""
        if self._coordinator is None:
            self._refused[f"requests_refused/{self.refusal}"] += 1
        if self._events is not None:
            self._events.describe(request)
        if self._coordinator is None or request.skip_reading_prefix_cache:
            return
        wanted = self._wanted(request)
        self._coordinator.arrive(wanted, self._num_local_tokens(request))

    def ask(self, request: "Request", num_computed: int) -> tuple[int | None, bool]:
        """Returns how many tokens can be loaded, and whether beside the steps."""
        if self._coordinator is None or request.skip_reading_prefix_cache:
            return 0, False
        patience_s = 0.0 if self._requests else _PATIENCE_S
        found = self._coordinator.ask(self._wanted(request), num_computed, patience_s)
        return found, bool(found) and self._settings.load == "async"

    def allocate(self, request: "Request", blocks: "KVCacheBlocks", num_external: int) -> None:
        """A request has blocks."""
        if self._coordinator is None:
            return
        self._requests[request.request_id] = request
        (block_ids,) = blocks.get_block_ids()
        self._coordinator.allocate(request.request_id, block_ids, num_external)

    def hit_sources(self, request: "Request", num_external: int) -> dict[CacheHitSource, int]:
        """Splits loaded tokens into those from peers and those of the own pool."""
        if self._coordinator is None:
            return {}
        num_local = self._coordinator.num_from_own_pool(request.request_id, num_external)
        found = {
            CacheHitSource.HOST: num_local,
            CacheHitSource.P2P: num_external - num_local,
        }
        return {source: number for source, number in found.items() if number}

    def step(self, output: SchedulerOutput) -> StepOrders:
        """Returns the orders of a step."""
        if self._coordinator is None:
            return _IDLE
        saves = self._computed(output) if self._settings.save == "computed" else iter(())
        return self._coordinator.step(saves, output.preempted_req_ids or (), _work_of(output))

    def report(self, output: "KVConnectorOutput", report: RankReport | None) -> None:
        """Takes what the workers tell."""
        if self._coordinator is None:
            return
        self._kept.difference_update(output.finished_sending or ())
        self._coordinator.loaded(output.finished_recving or ())
        if report is not None:
            self._coordinator.report(report)

    def finish(self, request: "Request") -> tuple[bool, dict[str, Any] | None]:
        """A request has ended."""
        self._requests.pop(request.request_id, None)
        if self._coordinator is None:
            return False, None
        ending = self._coordinator.finish(request.request_id)
        if ending.is_kept:
            self._kept.add(request.request_id)
        summary = ending.summary
        return ending.is_kept, {"p2p": msgspec.to_builtins(summary)} if summary else None

    def take_stats(self) -> KVConnectorStats | None:
        """Returns what has been counted since the last step, if anything."""
        coordinator = self._coordinator
        counters = self._refused if coordinator is None else coordinator.counters
        grown = self._growth.take(counters)
        if not grown:
            return None
        fetch_seconds = coordinator.fetch_seconds if coordinator is not None else ()
        taken = list(fetch_seconds)
        if coordinator is not None:
            coordinator.fetch_seconds.clear()
        return stats_of(grown, taken)

    def take_events(self) -> Sequence[KVCacheEvent]:
        """Returns what came into the pool and went since the last step, if anybody listens."""
        return self._events.take() if self._events is not None else ()

    def reset(self) -> bool:
        """Forgets what is in the pool."""
        if self._backend is not None:
            self._backend.clear()
        return True

    def close(self) -> None:
        """Leaves the fabric."""
        if self._fabric is not None and self._backend is not None:
            self._fabric.close()
            self._backend.close()

    # ------------------------------------------------------------------ parts

    def _start(self, shapes: list[RankShape]) -> None:
        identity = describe.identify(self._config, self._caches, self._settings)
        layout = identity.layout(self._settings.chunk_tokens_for(identity.block_tokens), shapes[0])
        self.refusal = refuse_shapes(layout, shapes, identity.tensor_parallel)
        if self.refusal:
            return
        config = backend_config(self._backend_settings, identity.namespace())
        self._backend = P2PBackend.start(config, layout)
        self._fabric = BackendFabric(self._backend)
        shared_pool = self._backend.shared_pool
        sharing = Sharing(
            block_tokens=layout.block_tokens,
            chunk_tokens=layout.chunk_tokens,
            num_ranks=identity.tensor_parallel,
            budget_s=config.budget_s,
            pool=PoolOrder(
                shared_pool.file, shared_pool.slot_bytes, layout, identity.tensor_parallel
            ),
            save_backlog_chunks=self._settings.save_backlog_chunks,
            num_kept_back=0 if self._settings.load == "async" else 1,
        )
        self._chunk_tokens = layout.chunk_tokens
        self._blocks_per_chunk = layout.chunk_tokens // layout.block_tokens
        self._coordinator = Coordinator(self._fabric, sharing, time.monotonic)
        listeners = self._config.kv_events_config
        if listeners is not None and listeners.enable_kv_cache_events:
            changes = self._backend.watch_chunks()
            self._events = PoolEvents(changes, layout.block_tokens, self._blocks_per_chunk)
        logger.info(
            "sharing KV as %s at %s: %s, %s",
            self._backend.config.instance,
            self._backend.address,
            config.namespace,
            layout,
        )

    def _wanted(self, request: "Request") -> Wanted:
        return Wanted(request.request_id, self._keys(request), request.num_tokens)

    def _keys(self, request: "Request") -> Sequence[ChunkKey]:
        per_chunk = self._blocks_per_chunk
        return [ChunkKey(each) for each in request.block_hashes[per_chunk - 1 :: per_chunk]]

    def _num_local_tokens(self, request: "Request") -> int:
        """Returns how many leading tokens the engine has in its own prefix cache."""
        pool = self.block_pool
        if pool is None or not pool.enable_caching:
            return 0
        num_found = 0
        for block_hash in request.block_hashes:
            if not pool.get_cached_block(block_hash, [0]):
                break
            num_found += 1
        return num_found * self._chunk_tokens // self._blocks_per_chunk

    def _computed(self, output: SchedulerOutput) -> Iterator[Computed]:
        """Yields the requests of which a step completes chunks."""
        state = output.kv_connector_block_state
        before = {each.req_id: each.num_computed_tokens for each in output.scheduled_new_reqs}
        cached = output.scheduled_cached_reqs
        before.update(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        chunk_tokens = self._chunk_tokens
        for request_id, num_scheduled in output.num_scheduled_tokens.items():
            request = self._requests.get(request_id)
            start = before[request_id]
            if request is None or start // chunk_tokens == (start + num_scheduled) // chunk_tokens:
                continue
            block_ids = state.get_block_ids(request_id) if state is not None else None
            if block_ids is not None:
                if self._events is not None:
                    self._events.describe(request, start // chunk_tokens)
                yield Computed(self._wanted(request), start, start + num_scheduled, block_ids[0])


def _work_of(output: SchedulerOutput) -> Work:
    """Returns how much a step computes; an answer grows by one token at a time."""
    scheduled = output.num_scheduled_tokens.values()
    num_prompt_tokens = sum(number for number in scheduled if number > 1)
    return Work(num_prompt_tokens, output.total_num_scheduled_tokens)
