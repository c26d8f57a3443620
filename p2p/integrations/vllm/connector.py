"""vLLM's connector interface over the coordinator (scheduler) and the copies (workers).

One class with two roles, as vLLM wants it; each role is an object of its own, and what is here only
translates. Nothing here waits for a peer, the controller or a copy, but for saves of requests whose
blocks are given away, and for loads within a step where they are asked for.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from vllm.config import VllmConfig
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorHandshakeMetadata,
    KVConnectorMetadata,
    KVConnectorRole,
    KVConnectorWorkerMetadata,
    SupportsHMA,
)
from vllm.distributed.kv_transfer.kv_connector.v1.metrics import (
    KVConnectorPromMetrics,
    KVConnectorStats,
)
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.metrics.cache_hit_source import CacheHitSource

from p2p.integrations.vllm.metrics import Metric, P2PPromMetrics, P2PStats
from p2p.integrations.vllm.orders import RankReport, RankShape, StepOrders
from p2p.integrations.vllm.scheduler_side import SchedulerSide
from p2p.integrations.vllm.settings import read_settings
from p2p.integrations.vllm.worker_side import WorkerSide

if TYPE_CHECKING:
    from vllm.distributed.kv_events import KVCacheEvent
    from vllm.forward_context import ForwardContext
    from vllm.v1.attention.backend import AttentionMetadata
    from vllm.v1.core.block_pool import BlockPool
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request


@dataclass
class P2PMetadata(KVConnectorMetadata):
    """Orders of one step, from the scheduler to every worker."""

    orders: StepOrders


@dataclass
class P2PWorkerMetadata(KVConnectorWorkerMetadata):
    """Reports of one step, from the workers to the scheduler."""

    report: RankReport

    def aggregate(self, other: KVConnectorWorkerMetadata) -> "P2PWorkerMetadata":
        """Returns the reports of both."""
        if not isinstance(other, P2PWorkerMetadata):
            raise TypeError(f"reports of {type(other).__name__} and ours do not add up")
        return P2PWorkerMetadata(self.report.plus(other.report))


@dataclass
class P2PHandshake(KVConnectorHandshakeMetadata):
    """What a worker was given as KV cache, from it to the scheduler at the start."""

    shape: RankShape


class P2PConnector(KVConnectorBase_V1, SupportsHMA):
    """Shares the KV cache of this vLLM instance with others."""

    _cache_hit_source: ClassVar[CacheHitSource] = CacheHitSource.P2P

    def __init__(
        self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: KVCacheConfig
    ) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        _log_with_vllm()
        extra = vllm_config.kv_transfer_config.kv_connector_extra_config
        settings, rest = read_settings(extra)
        self._scheduler_side: SchedulerSide | None = None
        self._worker_side: WorkerSide | None = None
        if role is KVConnectorRole.SCHEDULER:
            self._scheduler_side = SchedulerSide(vllm_config, kv_cache_config, settings, rest)
        else:
            self._worker_side = WorkerSide(vllm_config, kv_cache_config, settings)

    @property
    def requires_kv_delivery(self) -> bool:
        """False: a save that is lost is a later miss, nothing worse."""
        return False

    @property
    def _scheduler(self) -> SchedulerSide:
        if self._scheduler_side is None:
            raise TypeError("this half of the connector is a worker's")
        return self._scheduler_side

    @property
    def _worker(self) -> WorkerSide:
        if self._worker_side is None:
            raise TypeError("this half of the connector is the scheduler's")
        return self._worker_side

    # ------------------------------------------------------------------ workers

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Takes the engine's tensors."""
        self._worker.register(kv_caches)

    def get_handshake_metadata(self) -> KVConnectorHandshakeMetadata | None:
        """Returns what this worker was given."""
        return P2PHandshake(self._worker.shape())

    def handle_preemptions(self, kv_connector_metadata: KVConnectorMetadata) -> None:
        """Waits for saves of blocks that this step gives away."""
        self._worker.before_step(_orders(kv_connector_metadata))

    def start_load_kv(self, forward_context: "ForwardContext", **kwargs: Any) -> None:
        """Starts this step's loads; for those within the step, its layers wait."""
        del forward_context, kwargs
        self._worker.start_loads(_orders(self._get_connector_metadata()))

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Waits until this step's loads have reached a layer; later ones are still copied."""
        self._worker.wait_for_layer(layer_name)

    def save_kv_layer(
        self,
        layer_name: str,
        kv_layer: torch.Tensor,
        attn_metadata: "AttentionMetadata",
        **kwargs: Any,
    ) -> None:
        """Does nothing: chunks hold all layers and are saved after the step."""

    def wait_for_save(self) -> None:
        """Starts the saves of what this step has computed."""
        self._worker.start_saves(_orders(self._get_connector_metadata()))

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        """Returns ended requests whose blocks are free, and requests whose load is over."""
        del finished_req_ids
        return self._worker.collect()

    def get_block_ids_with_load_errors(self) -> set[int]:
        """Returns blocks of the loads just reported that hold nothing of use."""
        return self._worker.take_failed_blocks()

    def build_connector_worker_meta(self) -> KVConnectorWorkerMetadata | None:
        """Returns what there is to report."""
        report = self._worker.take_report()
        return None if report is None else P2PWorkerMetadata(report)

    # ------------------------------------------------------------------ scheduler

    def set_xfer_handshake_metadata(
        self, metadata: dict[int, KVConnectorHandshakeMetadata]
    ) -> None:
        """Starts sharing, now that it is known what the workers have."""
        shapes = [
            each.shape for _, each in sorted(metadata.items()) if isinstance(each, P2PHandshake)
        ]
        self._scheduler.start(shapes)

    def bind_gpu_block_pool(self, gpu_block_pool: "BlockPool") -> None:
        """Takes the engine's prefix cache, to look for what is not in it."""
        self._scheduler.block_pool = gpu_block_pool

    def on_new_request(self, request: "Request") -> None:
        """Starts to look for a request's chunks, before it is its turn."""
        self._scheduler.arrive(request)

    def get_num_new_matched_tokens(
        self, request: "Request", num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        """Returns how many tokens can be loaded, and whether beside the steps; None: not yet."""
        return self._scheduler.ask(request, num_computed_tokens)

    def update_state_after_alloc(
        self, request: "Request", blocks: "KVCacheBlocks", num_external_tokens: int
    ) -> None:
        """Takes the blocks to load into."""
        self._scheduler.allocate(request, blocks, num_external_tokens)

    def get_external_cache_hit_sources(
        self, request: "Request", num_external_tokens: int
    ) -> dict[CacheHitSource, int]:
        """Returns how many tokens came from peers, and how many from this instance's pool."""
        return self._scheduler.hit_sources(request, num_external_tokens)

    def build_connector_meta(self, scheduler_output: SchedulerOutput) -> KVConnectorMetadata:
        """Returns the orders of this step."""
        return P2PMetadata(self._scheduler.step(scheduler_output))

    def update_connector_output(self, connector_output: "KVConnectorOutput") -> None:
        """Takes the workers' reports."""
        meta = connector_output.kv_connector_worker_meta
        report = meta.report if isinstance(meta, P2PWorkerMetadata) else None
        self._scheduler.report(connector_output, report)

    def request_finished(
        self, request: "Request", block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        """Says whether blocks are still read, and what was shared of a request."""
        del block_ids
        return self._scheduler.finish(request)

    def request_finished_all_groups(
        self, request: "Request", block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        """As `request_finished`, for engines with several kinds of blocks."""
        del block_ids
        return self._scheduler.finish(request)

    def get_kv_connector_stats(self) -> KVConnectorStats | None:
        """Returns what has been counted since the last step; the scheduler counts for all."""
        return None if self._scheduler_side is None else self._scheduler_side.take_stats()

    @classmethod
    def get_required_kvcache_layout(cls, vllm_config: VllmConfig) -> str | None:
        """Returns the layout in which each head of a block is one span, so that heads are shared.

        None for latent caches, which have one. vLLM keeps its own where a backend cannot.
        """
        model = vllm_config.model_config
        return None if model is None or model.use_mla else "LBHNC"

    @classmethod
    def requires_piecewise_for_cudagraph(cls, extra_config: dict[str, Any]) -> bool:
        """Whether layers wait for loads, so that one graph of all layers cannot be captured."""
        return extra_config.get("load") == "step"

    @classmethod
    def build_kv_connector_stats(
        cls, data: dict[str, Any] | None = None
    ) -> KVConnectorStats | None:
        """Returns counts that another process has carried."""
        return P2PStats(data=data or {})

    @classmethod
    def build_prom_metrics(
        cls,
        vllm_config: VllmConfig,
        metric_types: dict[type[Metric], type[Metric]],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> KVConnectorPromMetrics:
        """Returns the metrics of ``/metrics``."""
        return P2PPromMetrics(vllm_config, metric_types, labelnames, per_engine_labelvalues)

    def take_events(self) -> Iterable["KVCacheEvent"]:
        """Returns what came into the pool and went, for vLLM's publisher of KV events."""
        return self._scheduler.take_events()

    def has_pending_block_frees(self) -> bool:
        """Whether blocks of ended requests come back soon, so that nobody need be preempted."""
        return self._scheduler.has_kept_blocks

    def reset_cache(self) -> bool:
        """Forgets what is in the pool, as after new weights."""
        return self._scheduler.reset()

    # ------------------------------------------------------------------ both

    def shutdown(self) -> None:
        """Stops what was started."""
        for side in (self._scheduler_side, self._worker_side):
            if side is not None:
                side.close()


def _log_with_vllm() -> None:
    """Sends what this library logs where vLLM's log goes; vLLM sets up only its own."""
    theirs, ours = logging.getLogger("vllm"), logging.getLogger("p2p")
    if not ours.handlers:
        ours.handlers = list(theirs.handlers)
        ours.setLevel(theirs.level)
        ours.propagate = theirs.propagate


def _orders(metadata: KVConnectorMetadata) -> StepOrders:
    if not isinstance(metadata, P2PMetadata):
        raise TypeError(f"metadata is {type(metadata).__name__}, not ours")
    return metadata.orders
