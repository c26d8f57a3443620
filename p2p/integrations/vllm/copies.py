"""A worker's half of the connector, without vLLM: copies between the paged cache and the pool.

Loads run one after the other on a thread of their own, and saves on another, so a step waits for
one only where it has to: before blocks are given to somebody else, and before a layer that is
loaded within the step. What is over is collected by the steps that follow.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from p2p.errors import P2PError
from p2p.integrations.vllm.cores import leave_the_engines_cores
from p2p.integrations.vllm.layer_gate import LayerGate
from p2p.integrations.vllm.orders import LoadOrder, PoolOrder, RankReport, SaveDone, SaveOrder
from p2p.integrations.vllm.rank_cache import RankCache
from p2p.kernels import SKIP_BLOCK, DeviceEvent

logger = logging.getLogger(__name__)
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Collected:
    """What is over since it was last asked.

    Attributes:
        loaded: requests whose load is over, well or not; each once.
        unread: ended requests whose blocks no save reads any more; each once.
        failed_blocks: blocks that were to be loaded and hold nothing of use.
        report: for the coordinator.
    """

    loaded: frozenset[str]
    unread: frozenset[str]
    failed_blocks: frozenset[int]
    report: RankReport


class Copies:
    """All copies of one rank. The engine's thread calls; two other threads copy.

    Args:
        rank: tensor-parallel rank.
        open_cache: wraps the engine's tensors and maps the pool, once that is known.
        record: returns an event behind what the engine's thread has queued on its device.
        clock: in seconds.
    """

    def __init__(
        self,
        rank: int,
        open_cache: Callable[[PoolOrder], RankCache],
        record: Callable[[], DeviceEvent],
        clock: Clock = time.monotonic,
    ) -> None:
        self._rank = rank
        self._open_cache = open_cache
        self._record = record
        self._clock = clock
        self._loads, self._saves = (
            ThreadPoolExecutor(1, thread_name_prefix=name, initializer=leave_the_engines_cores)
            for name in ("p2p-loads", "p2p-saves")
        )
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._cache: RankCache | None = None
        self._gate: LayerGate | None = None
        self._saves_by_request: dict[str, set[Future[None]]] = {}
        self._awaited: set[str] = set()
        self._loaded: set[str] = set()
        self._failed_blocks: set[int] = set()
        self._report = RankReport()

    def submit_loads(self, orders: Sequence[LoadOrder], pool: PoolOrder) -> None:
        """Starts loads."""
        after = self._record()
        for order in orders:
            self._loads.submit(self._load, order, pool, after)

    def submit_saves(self, orders: Sequence[SaveOrder], pool: PoolOrder) -> None:
        """Starts saves of blocks whose KV is there, or queued on the device."""
        after = self._record()
        for order in orders:
            save = self._saves.submit(self._save, order, pool, after)
            self._saves_by_request.setdefault(order.request, set()).add(save)

    def submit_layers(self, orders: Sequence[LoadOrder], pool: PoolOrder) -> None:
        """Starts loads layer by layer, for the step that is about to be computed.

        `wait_layer` lets it go on, and `collect` waits for what is left.
        """
        self._gate = LayerGate()
        self._loads.submit(self._load_layers, tuple(orders), pool, self._record(), self._gate)

    def wait_layer(self, layer: int) -> None:
        """Returns once what this step loads of a layer is there, or has failed."""
        if self._gate is not None:
            self._gate.wait(layer)

    def wait_saves(self, request_ids: Iterable[str]) -> None:
        """Returns once no save reads the blocks of these requests any more."""
        for request_id in request_ids:
            wait(self._saves_by_request.pop(request_id, ()))

    def watch(self, request_ids: Iterable[str]) -> None:
        """These requests have ended: they are reported once no save reads their blocks."""
        for request_id in request_ids:
            self._awaited.add(request_id)

    def collect(self) -> Collected:
        """Returns what is over, once."""
        if self._gate is not None:
            self._gate.wait_over()
            self._gate = None
        for request_id in [each for each, saves in self._saves_by_request.items() if _over(saves)]:
            del self._saves_by_request[request_id]
        unread = frozenset(self._awaited - self._saves_by_request.keys())
        self._awaited -= unread
        with self._lock:
            collected = Collected(
                frozenset(self._loaded), unread, frozenset(self._failed_blocks), self._report
            )
            self._loaded, self._failed_blocks, self._report = set(), set(), RankReport()
        return collected

    def close(self) -> None:
        """Waits for what was started."""
        self._loads.shutdown(wait=True)
        self._saves.shutdown(wait=True)

    # ------------------------------------------------------------------ on the copying threads

    def _load(self, order: LoadOrder, pool: PoolOrder, after: DeviceEvent) -> None:
        began_s, num_bytes, failed = self._clock(), 0, _blocks_of([order])
        try:
            num_bytes = self._opened(pool).load(order, after)
            failed = set()
        except P2PError:
            logger.exception("load of %s failed: %d blocks", order.request, len(order.blocks))
        finally:
            report = RankReport(
                num_load_failures=bool(failed),
                load_bytes=num_bytes,
                load_s=self._clock() - began_s,
            )
            self._note(report, failed, order.request)

    def _load_layers(
        self, orders: Sequence[LoadOrder], pool: PoolOrder, after: DeviceEvent, gate: LayerGate
    ) -> None:
        began_s, num_bytes, failed = self._clock(), 0, _blocks_of(orders)
        requests = tuple(order.request for order in orders)
        try:
            num_bytes = self._opened(pool).load_layers(orders, after, gate.open_next)
            failed = set()
        except P2PError:
            logger.exception("loads of %s failed: %d blocks", requests, len(failed))
        finally:
            report = RankReport(
                loads=requests,
                num_load_failures=len(requests) if failed else 0,
                load_bytes=num_bytes,
                load_s=self._clock() - began_s,
            )
            self._note(report, failed)
            gate.open_all()

    def _save(self, order: SaveOrder, pool: PoolOrder, after: DeviceEvent) -> None:
        began_s, num_bytes, is_stored = self._clock(), 0, False
        try:
            num_bytes = self._opened(pool).save(order, after)
            is_stored = True
        except P2PError:
            logger.exception("save of %s failed: %d chunks", order.request, len(order.slots))
        finally:
            report = RankReport(
                saves=(SaveDone(order.number, self._rank, is_stored),),
                save_bytes=num_bytes,
                save_s=self._clock() - began_s,
            )
            self._note(report)

    def _opened(self, pool: PoolOrder) -> RankCache:
        with self._opening:
            if self._cache is None:
                self._cache = self._open_cache(pool)
            return self._cache

    def _note(
        self, report: RankReport, failed: Iterable[int] = (), loaded: str | None = None
    ) -> None:
        with self._lock:
            self._report = self._report.plus(report)
            self._failed_blocks.update(failed)
            if loaded is not None:
                self._loaded.add(loaded)


def _over(saves: Iterable[Future[None]]) -> bool:
    return all(save.done() for save in saves)


def _blocks_of(orders: Iterable[LoadOrder]) -> set[int]:
    """Returns the blocks that loads fill."""
    return {block for order in orders for block in order.blocks if block != SKIP_BLOCK}
