"""The connector in a worker: vLLM's tensors, and the copies into and out of them."""

from typing import TYPE_CHECKING

import torch
from vllm.config import VllmConfig
from vllm.distributed.parallel_state import get_tensor_model_parallel_rank
from vllm.v1.kv_cache_interface import KVCacheConfig

from p2p.integrations.vllm import describe
from p2p.integrations.vllm.copies import Copies
from p2p.integrations.vllm.orders import PoolOrder, RankReport, RankShape, StepOrders
from p2p.integrations.vllm.settings import ConnectorConfig
from p2p.kernels import PageAxes, PagedCache

if TYPE_CHECKING:
    from p2p.integrations.vllm.copies import Collected

_NOTHING = RankReport()


class WorkerSide:
    """One rank.

    Args:
        config: vLLM's.
        caches: vLLM's description of the KV cache.
        settings: the connector's.
    """

    def __init__(
        self, config: VllmConfig, caches: KVCacheConfig, settings: ConnectorConfig
    ) -> None:
        self._config = config
        self._caches = caches
        self._loads_within_steps = settings.load == "step"
        self._rank = get_tensor_model_parallel_rank()
        self._tensors: list[torch.Tensor] = []
        self._copies = Copies(self._rank, self._open_cache)
        self._collected: Collected | None = None

    def register(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Takes the engine's tensors."""
        self._tensors = describe.ordered_tensors(kv_caches)

    def shape(self) -> RankShape:
        """Returns what they are."""
        refusal = describe.refusal(self._config, self._caches)
        if refusal or not self._tensors:
            return RankShape(self._rank, 0, 0, "", "", refusal or "kv_caches: none")
        return describe.shape_of(self._rank, self._tensors, self._config, self._caches)

    def before_step(self, orders: StepOrders) -> None:
        """Waits for saves of blocks that a step gives away."""
        if orders.preempted:
            self._copies.wait_saves(orders.preempted)

    def start_loads(self, orders: StepOrders) -> None:
        """Starts loads; those within steps are over when this returns."""
        if not orders.loads or orders.pool is None:
            return
        if self._loads_within_steps:
            self._copies.load_now(orders.loads, orders.pool)
        else:
            self._copies.submit_loads(orders.loads, orders.pool)

    def start_saves(self, orders: StepOrders) -> None:
        """Starts the saves of what a step has computed."""
        if orders.saves and orders.pool is not None:
            self._copies.submit_saves(orders.saves, orders.pool)
        if orders.awaited:
            self._copies.watch(orders.awaited)

    def collect(self) -> tuple[set[str] | None, set[str] | None]:
        """Returns ended requests that nothing reads any more, and requests that are loaded."""
        self._collected = self._copies.collect()
        return set(self._collected.unread) or None, set(self._collected.loaded) or None

    def take_failed_blocks(self) -> set[int]:
        """Returns blocks of the loads that `collect` has just told that hold nothing of use."""
        return set(self._collected.failed_blocks) if self._collected else set()

    def take_report(self) -> RankReport | None:
        """Returns the report that goes with `collect`, if there is anything to say."""
        collected, self._collected = self._collected, None
        return collected.report if collected and collected.report != _NOTHING else None

    def close(self) -> None:
        """Waits for copies that were started."""
        self._copies.close()

    def _open_cache(self, pool: PoolOrder) -> PagedCache:
        return PagedCache.for_layout(self._tensors, PageAxes.OPAQUE, pool.layout)
