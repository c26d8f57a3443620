"""The connector in a worker: vLLM's tensors, and the copies into and out of them."""

from typing import TYPE_CHECKING

import torch
from vllm.config import VllmConfig
from vllm.distributed.parallel_state import get_tensor_model_parallel_rank
from vllm.v1.kv_cache_interface import KVCacheConfig

from p2p.integrations.vllm import describe
from p2p.integrations.vllm.copies import Copies
from p2p.integrations.vllm.orders import PoolOrder, RankReport, RankShape, StepOrders
from p2p.integrations.vllm.rank_cache import CacheTensors, RankCache
from p2p.integrations.vllm.settings import ConnectorConfig
from p2p.kernels import DeviceEvent, DeviceName

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
        self._layer_by_name: dict[str, int] = {}
        self._cache: CacheTensors | None = None
        self._copies = Copies(self._rank, self._open_cache, self._record)
        self._timed = 0
        self._collected: Collected | None = None

    def register(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Takes the engine's tensors."""
        self._tensors = describe.ordered_tensors(kv_caches)
        numbers = {each.data_ptr(): number for number, each in enumerate(self._tensors)}
        self._layer_by_name = {name: numbers[each.data_ptr()] for name, each in kv_caches.items()}
        if self._tensors:
            num_heads = describe.num_heads_of(self._tensors[0], self._caches)
            device = DeviceName.parse(str(self._tensors[0].device))
            self._cache = CacheTensors(self._tensors, num_heads, device)

    def shape(self) -> RankShape:
        """Returns what they are."""
        refusal = describe.refusal(self._config, self._caches)
        if refusal or not self._tensors:
            return RankShape(self._rank, 0, 0, 0, "", "", refusal or "kv_caches: none")
        return describe.shape_of(self._rank, self._tensors, self._config, self._caches)

    def before_step(self, orders: StepOrders) -> None:
        """Waits for saves of blocks that a step gives away."""
        if orders.preempted:
            self._copies.wait_saves(orders.preempted)

    def start_loads(self, orders: StepOrders) -> None:
        """Starts loads; for those within steps `wait_for_layer` waits."""
        if not orders.loads or orders.pool is None:
            return
        if self._loads_within_steps:
            self._copies.submit_layers(orders.loads, orders.pool)
        else:
            self._copies.submit_loads(orders.loads, orders.pool)

    def wait_for_layer(self, name: str) -> None:
        """Returns once this step's loads have reached a layer, or have failed."""
        if self._loads_within_steps:
            self._copies.wait_layer(self._layer_by_name.get(name, len(self._tensors) - 1))

    def start_saves(self, orders: StepOrders) -> None:
        """Starts the saves of what a step has computed."""
        self._timed = orders.timed
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
        report = collected.report if collected else _NOTHING
        if self._timed:
            report = report.plus(RankReport(timed=(self._timed,)))
            self._timed = 0
        return report if report != _NOTHING else None

    def close(self) -> None:
        """Waits for copies that were started."""
        self._copies.close()

    def _open_cache(self, pool: PoolOrder) -> RankCache:
        return RankCache(self._registered(), pool, self._rank)

    def _record(self) -> DeviceEvent:
        return self._registered().event()

    def _registered(self) -> CacheTensors:
        if self._cache is None:
            raise TypeError("vLLM registers its KV cache before it has anything to copy")
        return self._cache
