"""Copies between an engine's paged cache and slots of the pool: all of a chunk, or one layer.

Where cache and pool are in one memory, the host's or a device's, kernels copy directly; else copies
go through rings. Either way bytes are there when a call returns. No decisions about chunks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from p2p.backend.blocks import BlockRows
from p2p.backend.cache_part import CachePart
from p2p.backend.copy_gate import CopyGate
from p2p.backend.device_copier import DeviceCopier
from p2p.backend.device_ring import DeviceRing, usual_size
from p2p.errors import ArgumentError, ClosedError
from p2p.kernels import (
    ChunkSpec,
    DeviceEvent,
    DeviceKind,
    DeviceName,
    HeadRange,
    Implementation,
    PagedCache,
    PageMemory,
    Slot,
    Tensors,
    current_stream,
    split_layers,
)
from p2p.layout import ByteOrder, Layout
from p2p.wire.messages import KernelView

_HOST = DeviceName(DeviceKind.CPU)
_Way: TypeAlias = DeviceRing | DeviceCopier


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
        pool: where slots are: on the host, or on that device.

    Attributes:
        num_layers: layers.
        blocks_per_chunk: block ids that a chunk takes.
        has_whole_chunks: it has all heads of a chunk.

    Raises:
        ArgumentError: the tensors do not fit axes, layout or device.
        PluginMissingError: the implementation, or the device, needs a package.
        MemoryUnavailableError: the device has no memory for a ring.
    """

    def __init__(
        self,
        description: CacheDescription,
        layout: Layout,
        device: DeviceName,
        pool: DeviceName = _HOST,
    ) -> None:
        memory = PageMemory.of_tensors(description.tensors, description.axes)
        _check_device(memory, device)
        if layout.byte_order is ByteOrder.CANONICAL:
            memory.check_dtype(layout.kv_dtype)
        self._memory: PageMemory | None = memory
        self._implementation = description.implementation
        self._device = device
        self._gate = CopyGate()
        self._layers: list[CachePart] | None = None
        chunk = _chunk_of(layout, memory, description.heads)
        whole = CachePart(self._open(memory, chunk), description.heads, 0)
        whole.cache.plan([], description.heads)  # refuses heads that are not there
        self._whole: CachePart | None = whole
        self.has_whole_chunks = whole.heads is None or whole.heads.count == chunk.num_heads
        self.num_layers = layout.num_layers
        self.blocks_per_chunk = whole.cache.blocks_per_chunk
        self._rings: tuple[_Way, _Way] | None = None
        if device.kind is DeviceKind.CPU:
            return
        if pool == device:
            self._rings = (DeviceCopier(device), DeviceCopier(device))
        else:
            size = usual_size(whole.num_bytes)
            self._rings = (DeviceRing(device, size), DeviceRing(device, size))

    def kernels(self) -> tuple[KernelView, ...]:
        """Returns which implementations of kernels copy, and for what; none after `close`."""
        whole = self._whole
        if whole is None:
            return ()
        device, is_host = self._device.torch_name, self._device.kind is DeviceKind.CPU
        return tuple(
            KernelView(device=device, implementation=name, choice=choice, is_tested=is_host)
            for name, choice in whole.cache.choices().items()
        )

    @property
    def whole(self) -> CachePart:
        """Everything that a chunk has of it.

        Raises:
            ClosedError: after `close`.
        """
        if self._whole is None:
            raise ClosedError("the paged cache was closed")
        return self._whole

    @property
    def layers(self) -> list[CachePart]:
        """The layers in order; made when they are first asked for.

        Raises:
            ClosedError: after `close`.
        """
        with self._gate.passage():
            if self._layers is None:
                self._layers = self._split()
            return self._layers

    def close(self) -> None:
        """Returns when nothing touches the tensors any more, and lets go of them. Idempotent."""
        self._gate.shut()
        self._memory = self._whole = self._layers = self._rings = None

    def compute_event(self) -> DeviceEvent:
        """Returns an event behind what the calling thread has queued on the device."""
        return current_stream(self._device).record()

    def gather(
        self, part: CachePart, rows: BlockRows, slots: Sequence[Slot], after: DeviceEvent
    ) -> None:
        """Copies blocks of a part into whole slots, once an event has passed.

        Raises:
            ArgumentError: what does not fit, by name and value; nothing was copied.
            ClosedError: after `close`; nothing was copied.
            DeviceError: the device failed.
        """
        spans = part.of_slots(slots)
        with self._gate.passage():
            if self._rings is None:
                after.wait_host()
                part.gather(rows, spans)
            else:
                self._rings[0].gather(part, rows, spans, after)

    def scatter(
        self, part: CachePart, rows: BlockRows, slots: Sequence[Slot], after: DeviceEvent
    ) -> None:
        """Copies whole slots into blocks of a part; arguments and errors as `gather`."""
        spans = part.of_slots(slots)
        with self._gate.passage():
            if self._rings is None:
                after.wait_host()
                part.scatter(spans, rows)
            else:
                self._rings[1].scatter(part, rows, spans, after)

    def _open(self, memory: PageMemory, chunk: ChunkSpec) -> PagedCache:
        return PagedCache(memory, chunk, self._implementation)

    def _split(self) -> list[CachePart]:
        if self._memory is None:
            raise ClosedError("the paged cache was closed")
        whole = self.whole
        parts = split_layers(self._memory, whole.cache.chunk, self.num_layers)
        return [
            CachePart(self._open(memory, chunk), whole.heads, layer * chunk.chunk_bytes)
            for layer, (memory, chunk) in enumerate(parts)
        ]


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
