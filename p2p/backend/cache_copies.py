"""Copies between an engine's paged cache and slots of the pool: all of a chunk, or one layer.

A cache on the host is copied by the kernels directly, one on a device through rings. Either way
bytes are there when a call returns. No decisions about chunks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec

from p2p.backend.blocks import BlockRows
from p2p.backend.cache_part import CachePart
from p2p.backend.device_ring import DeviceRing, usual_size
from p2p.backend.pool import SlotBytes
from p2p.errors import ArgumentError
from p2p.kernels import (
    ChunkSpec,
    DeviceEvent,
    DeviceKind,
    DeviceName,
    HeadRange,
    Implementation,
    PagedCache,
    PageMemory,
    Tensors,
    current_stream,
    split_layers,
)
from p2p.layout import ByteOrder, Layout


@dataclass(frozen=True)
class CacheDescription:
    """What an engine says of its paged cache.

    Attributes:
        tensors: one per layer, K and V of every layer as pairs, or one for all layers.
        axes: a letter for each axis of a tensor, such as `PageAxes.KV_FIRST_NHD`.
        implementation: forces the kernels' implementation.
        heads: which heads of a chunk the cache has, and where; None for all. An opaque chunk has
            heads where the axes name them, such as ``BHX``: ``[layer][head][block][byte]``.
    """

    tensors: Tensors
    axes: str
    implementation: Implementation = Implementation.AUTO
    heads: HeadRange | None = None


class CacheCopies:
    """One paged cache. Thread-safe, as far as nobody writes what is read.

    Args:
        description: of the cache.
        layout: of the chunks.
        device: where the cache must be.

    Attributes:
        num_layers: layers.
        blocks_per_chunk: block ids that a chunk takes.
        whole: everything that a chunk has of it.

    Raises:
        ArgumentError: the tensors do not fit axes, layout or device.
        PluginMissingError: the implementation, or the device, needs a package.
        MemoryUnavailableError: the device has no memory for a ring.
    """

    def __init__(self, description: CacheDescription, layout: Layout, device: DeviceName) -> None:
        memory = PageMemory.of_tensors(description.tensors, description.axes)
        _check_device(memory, device)
        if layout.byte_order is ByteOrder.CANONICAL:
            memory.check_dtype(layout.kv_dtype)
        self._memory = memory
        self._description = description
        self._device = device
        chunk = _chunk_of(layout, memory, description.heads)
        self.whole = CachePart(self._open(memory, chunk), description.heads, 0)
        self.whole.cache.plan([], description.heads)  # refuses heads that are not there
        self.num_layers = layout.num_layers
        self.blocks_per_chunk = self.whole.cache.blocks_per_chunk
        self._rings = None
        if device.kind is not DeviceKind.CPU:
            self._rings = (self._ring(), self._ring())

    @property
    def has_whole_chunks(self) -> bool:
        """True if it has all heads of a chunk."""
        heads = self.whole.heads
        return heads is None or heads.count == self.whole.cache.chunk.num_heads

    @cached_property
    def layers(self) -> list[CachePart]:
        """The layers in order; made when they are first asked for."""
        parts = split_layers(self._memory, self.whole.cache.chunk, self.num_layers)
        return [
            CachePart(self._open(memory, chunk), self.whole.heads, layer * chunk.chunk_bytes)
            for layer, (memory, chunk) in enumerate(parts)
        ]

    def compute_event(self) -> DeviceEvent:
        """Returns an event behind what the calling thread has queued on the device."""
        return current_stream(self._device).record()

    def gather(
        self, part: CachePart, rows: BlockRows, slots: Sequence[SlotBytes], after: DeviceEvent
    ) -> None:
        """Copies blocks of a part into whole slots, once an event has passed.

        Raises:
            ArgumentError: what does not fit, by name and value; nothing was copied.
            DeviceError: the device failed.
        """
        spans = part.of_slots(slots)
        if self._rings is None:
            after.wait_host()
            part.gather(rows, spans)
        else:
            self._rings[0].gather(part, rows, spans, after)

    def scatter(
        self, part: CachePart, rows: BlockRows, slots: Sequence[SlotBytes], after: DeviceEvent
    ) -> None:
        """Copies whole slots into blocks of a part; arguments and errors as `gather`."""
        spans = part.of_slots(slots)
        if self._rings is None:
            after.wait_host()
            part.scatter(spans, rows)
        else:
            self._rings[1].scatter(part, rows, spans, after)

    def _open(self, memory: PageMemory, chunk: ChunkSpec) -> PagedCache:
        return PagedCache(memory, chunk, self._description.implementation)

    def _ring(self) -> DeviceRing:
        return DeviceRing(self._device, usual_size(self.whole.num_bytes))


def _check_device(memory: PageMemory, device: DeviceName) -> None:
    found = memory.spec.device
    if found not in {device.torch_name, device.torch_name.removesuffix(":0")}:
        reason = f"backend.device is {device.torch_name}"
        raise ArgumentError("tensors.device", found, reason)


def _chunk_of(layout: Layout, memory: PageMemory, heads: HeadRange | None) -> ChunkSpec:
    """Returns the chunk; where the cache has only some heads of it, the rest must fit."""
    if heads is None:
        return ChunkSpec.for_layout(layout, memory.spec)
    if layout.byte_order is ByteOrder.OPAQUE:
        return _opaque_heads(layout, memory, heads)
    sliced = msgspec.structs.replace(layout, num_kv_heads=memory.spec.num_heads, tensor_parallel=1)
    cut = ChunkSpec.for_layout(sliced, memory.spec)
    return ChunkSpec.canonical(
        cut.num_planes, layout.heads_per_rank, cut.chunk_tokens, cut.head_dim, cut.item_bytes
    )


def _opaque_heads(layout: Layout, memory: PageMemory, heads: HeadRange) -> ChunkSpec:
    """Returns an opaque chunk of all heads, each of which an engine has packed by itself."""
    page = memory.spec
    per_head = layout.chunk_bytes // layout.heads_per_rank
    blocks_per_chunk = layout.chunk_tokens // layout.block_tokens
    chunk = ChunkSpec.canonical(
        len(page.planes), layout.heads_per_rank, blocks_per_chunk, page.row_bytes, 1
    )
    if page.block_tokens != 1 or chunk.chunk_bytes != per_head * layout.heads_per_rank:
        reason = f"opaque chunks move whole, or by heads of {per_head} bytes that axes name: BHX"
        raise ArgumentError("heads", heads, reason)
    return chunk
