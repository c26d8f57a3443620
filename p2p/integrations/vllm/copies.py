"""A worker's half of the connector, without vLLM: copies between the paged cache and the pool.

Copies run one after the other on a thread of their own, so a step waits for one only where it has
to: before blocks are given to somebody else. What is over is collected by the steps that follow.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from p2p.agent.shared_arena import attach
from p2p.errors import P2PError
from p2p.integrations.vllm.orders import LoadOrder, PoolOrder, RankReport, SaveDone, SaveOrder
from p2p.kernels import SKIP_BLOCK, PagedCache, Slot

logger = logging.getLogger(__name__)
Clock = Callable[[], float]


class Shards:
    """The shards of one rank in a mapped pool.

    Args:
        pool: to map.
        rank: whose shards.

    Raises:
        MemoryUnavailableError: the pool cannot be mapped here.
    """

    def __init__(self, pool: PoolOrder, rank: int) -> None:
        self._bytes = attach(pool.file)
        self._slot_bytes = pool.slot_bytes
        self._shard_bytes = pool.layout.chunk_bytes
        self._offset = rank * self._shard_bytes

    def of_slots(self, slots: Iterable[int]) -> list[Slot]:
        """Returns the bytes of this rank's shard in each slot."""
        starts = [slot * self._slot_bytes + self._offset for slot in slots]
        return [self._bytes[start : start + self._shard_bytes] for start in starts]


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
    """All copies of one rank. The engine's thread calls; one other thread copies.

    Args:
        rank: tensor-parallel rank.
        open_cache: wraps the engine's tensors, once the layout is known.
        clock: in seconds.
    """

    def __init__(
        self,
        rank: int,
        open_cache: Callable[[PoolOrder], PagedCache],
        clock: Clock = time.monotonic,
    ) -> None:
        self._rank = rank
        self._open_cache = open_cache
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="p2p-copies")
        self._lock = threading.Lock()
        self._ends: tuple[Shards, PagedCache] | None = None
        self._pool: PoolOrder | None = None
        self._saves_by_request: dict[str, set[Future[None]]] = {}
        self._awaited: set[str] = set()
        self._loaded: set[str] = set()
        self._failed_blocks: set[int] = set()
        self._report = RankReport()

    def submit_loads(self, orders: Sequence[LoadOrder], pool: PoolOrder) -> None:
        """Starts loads."""
        self._pool = pool
        for order in orders:
            self._thread.submit(self._load, order)

    def submit_saves(self, orders: Sequence[SaveOrder], pool: PoolOrder) -> None:
        """Starts saves of blocks whose KV is there."""
        self._pool = pool
        for order in orders:
            save = self._thread.submit(self._save, order)
            self._saves_by_request.setdefault(order.request, set()).add(save)

    def load_now(self, orders: Sequence[LoadOrder], pool: PoolOrder) -> None:
        """Loads before it returns; nothing but failures is reported of it."""
        self._pool = pool
        loads = [self._thread.submit(self._load, order) for order in orders]
        wait(loads)
        with self._lock:
            self._loaded.difference_update(order.request for order in orders)

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
        self._thread.shutdown(wait=True)

    # ------------------------------------------------------------------ on the copying thread

    def _load(self, order: LoadOrder) -> None:
        began_s = self._clock()
        failed: list[int] = []
        try:
            shards, cache = self._opened()
            cache.scatter(shards.of_slots(order.slots), order.blocks)
        except P2PError:
            logger.exception("load of %s failed: %d blocks", order.request, len(order.blocks))
            failed = [block for block in order.blocks if block != SKIP_BLOCK]
        self._note(
            RankReport(
                num_load_failures=bool(failed),
                load_bytes=0 if failed else self._num_bytes(order.slots),
                load_s=self._clock() - began_s,
            ),
            failed,
            order.request,
        )

    def _save(self, order: SaveOrder) -> None:
        began_s = self._clock()
        is_stored = True
        try:
            shards, cache = self._opened()
            cache.gather(order.blocks, shards.of_slots(order.slots))
        except P2PError:
            logger.exception("save of %s failed: %d chunks", order.request, len(order.slots))
            is_stored = False
        self._note(
            RankReport(
                saves=(SaveDone(order.number, self._rank, is_stored),),
                save_bytes=self._num_bytes(order.slots) if is_stored else 0,
                save_s=self._clock() - began_s,
            )
        )

    def _opened(self) -> tuple[Shards, PagedCache]:
        if self._ends is None:
            if self._pool is None:
                raise AssertionError("copies name their pool")
            self._ends = Shards(self._pool, self._rank), self._open_cache(self._pool)
        return self._ends

    def _num_bytes(self, slots: Sequence[int]) -> int:
        return len(slots) * self._pool.layout.chunk_bytes if self._pool else 0

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
