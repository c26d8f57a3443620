"""One rank's paged cache beside the pool: the bytes of orders, moved by the backend's copies.

Without vLLM. What is on a device is ordered behind an event, and copied through rings of the
backend: untested on hardware.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from p2p.agent.shared_arena import attach
from p2p.backend.blocks import rows_to_gather, rows_to_scatter
from p2p.backend.cache_copies import CacheCopies, CacheDescription
from p2p.backend.cache_part import CachePart
from p2p.backend.pool import SlotBytes
from p2p.errors import MemoryUnavailableError
from p2p.integrations.vllm.orders import LoadOrder, PoolOrder, SaveOrder
from p2p.integrations.vllm.shares import share_of
from p2p.kernels import (
    DeviceEvent,
    DeviceKind,
    DeviceName,
    PageAxes,
    PinnedSpan,
    Tensors,
    current_stream,
    pin_span,
)

logger = logging.getLogger(__name__)
_BY_HEADS = "BHX"  # block, head, and what an engine has packed for them


@dataclass(frozen=True)
class CacheTensors:
    """What vLLM gave a worker.

    Attributes:
        tensors: one per layer; blocks first, then heads where there are some.
        num_heads: that each of them has behind the blocks; 0 if blocks move whole.
        device: where they are.
    """

    tensors: Tensors
    num_heads: int
    device: DeviceName

    def event(self) -> DeviceEvent:
        """Returns an event behind what the calling thread has queued on the device."""
        return current_stream(self.device).record()


class RankCache:
    """The paged cache of one rank, and its part of every slot of a pool that it maps.

    Args:
        cache: the engine's tensors.
        pool: to map.
        rank: tensor-parallel rank.

    Attributes:
        num_layers: of the cache.

    Raises:
        MemoryUnavailableError: the pool cannot be mapped here.
        ArgumentError: the tensors are not what the pool's layout says.
    """

    def __init__(self, cache: CacheTensors, pool: PoolOrder, rank: int) -> None:
        layout = pool.layout
        heads, axes, self._is_writer, self._offset = None, PageAxes.OPAQUE.value, True, 0
        self._share_bytes = layout.chunk_bytes
        if cache.num_heads:
            share = share_of(rank, pool.num_ranks, layout.num_kv_heads, cache.num_heads)
            heads, axes, self._is_writer = share.heads, _BY_HEADS, share.is_writer
            self._share_bytes = layout.chunk_bytes * heads.count // layout.num_kv_heads
        else:
            self._offset = rank * layout.chunk_bytes
        description = CacheDescription(cache.tensors, axes, heads=heads)
        self._copies = CacheCopies(description, layout, cache.device)
        self._bytes = attach(pool.file)
        self._pinned = _pin(self._bytes, cache.device)
        self._slot_bytes = pool.slot_bytes
        self._chunk_bytes = layout.chunk_bytes
        self.num_layers = self._copies.num_layers

    def load(self, order: LoadOrder, after: DeviceEvent) -> int:
        """Copies chunks out of the pool into blocks, behind an event; returns the bytes.

        Raises:
            P2PError: what is in the blocks is undefined.
        """
        self._scatter(self._copies.whole, order, after)
        return self._share_bytes * len(order.slots)

    def load_layers(
        self, orders: Sequence[LoadOrder], after: DeviceEvent, on_layer: Callable[[], None]
    ) -> int:
        """Does `load` layer by layer over all orders, and tells of each layer; returns the bytes.

        Raises:
            P2PError: as `load`, for all orders.
        """
        for part in self._copies.layers:
            for order in orders:
                self._scatter(part, order, after)
            on_layer()
        return self._share_bytes * sum(len(order.slots) for order in orders)

    def save(self, order: SaveOrder, after: DeviceEvent) -> int:
        """Copies blocks into the pool, behind an event; returns the bytes.

        Copies nothing where another rank saves the same.

        Raises:
            P2PError: what is in the slots is undefined.
        """
        if not self._is_writer:
            return 0
        rows = rows_to_gather(order.blocks, len(order.slots), self._copies.blocks_per_chunk)
        self._copies.gather(self._copies.whole, rows, self._of_slots(order.slots), after)
        return self._share_bytes * len(order.slots)

    def _scatter(self, part: CachePart, order: LoadOrder, after: DeviceEvent) -> None:
        rows = rows_to_scatter(order.blocks, len(order.slots), self._copies.blocks_per_chunk)
        self._copies.scatter(part, rows, self._of_slots(order.slots), after)

    def _of_slots(self, slots: Sequence[int]) -> list[SlotBytes]:
        """Returns the bytes of each slot that this rank copies from and into."""
        starts = [slot * self._slot_bytes + self._offset for slot in slots]
        return [self._bytes[start : start + self._chunk_bytes] for start in starts]


def _pin(pool: SlotBytes, device: DeviceName) -> PinnedSpan | None:
    """Pins the pool for a device's copies; without that they work, and wait for the driver."""
    if device.kind is DeviceKind.CPU:
        return None
    try:
        return pin_span(pool.ctypes.data, pool.size, device)
    except MemoryUnavailableError as error:
        logger.warning("the pool is not pinned, copies will be slow: %s", error)
        return None
