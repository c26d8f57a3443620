"""Copies between a paged cache on a device and slots of the pool in host memory.

That is the staging for a network that cannot reach the device: the pool's slots are the registered
host memory, and a ring of buffers on the device lets kernels work on one piece while the bus moves
another. Kernels and bus have a stream each. On the host, where streams do nothing, the same code
runs in tests. Untested on hardware.
"""

import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from p2p.backend.blocks import BlockRows
from p2p.backend.cache_part import CachePart
from p2p.channel.base import TransferState
from p2p.channel.staging import (
    RingSize,
    SlotRing,
    StageCost,
    StagingPump,
    StreamStage,
    ring_size,
)
from p2p.errors import DeviceError, MemoryUnavailableError
from p2p.kernels import DeviceEvent, DeviceName, Slot, host_bytes, open_stream

if TYPE_CHECKING:
    import torch

# What sizes the buffers: a gather at a device's memory, and a bus of 50 GB/s (PCIe 5).
_STAGES = (StageCost("kernel", 10e-6, 1.5e12), StageCost("bus", 8e-6, 50e9))
_USUAL_COPY_BYTES = 64 << 20


def usual_size(chunk_bytes: int) -> RingSize:
    """Returns the size of a ring for chunks of that length."""
    size = ring_size(_STAGES, _USUAL_COPY_BYTES)
    return RingSize(max(size.slot_bytes, chunk_bytes), size.num_slots)


class DeviceRing:
    """One direction of copies between a device and the host. Thread-safe: one copy at a time.

    Args:
        device: where the paged caches are.
        size: of the buffers there; one holds a chunk at least.

    Raises:
        MemoryUnavailableError: torch is missing, or the device has no memory for the buffers.
        PluginMissingError: torch doesn't know the device.
    """

    def __init__(self, device: DeviceName, size: RingSize) -> None:
        self._buffers = _allocate(device, size)
        self._pump = StagingPump(SlotRing(size.num_slots))
        self._kernels, self._bus = open_stream(device), open_stream(device)
        self._lock = threading.Lock()

    def gather(
        self, part: CachePart, rows: BlockRows, spans: Sequence[Slot], after: DeviceEvent
    ) -> None:
        """Copies chunks out of a cache into host memory; they are there when it returns.

        Args:
            part: of a cache on the device.
            rows: (C, N) the chunks' blocks.
            spans: host memory, one per chunk.
            after: what the engine was computing into these blocks.

        Raises:
            DeviceError: the device failed, or blocks and spans do not fit the cache.
        """
        pieces = _Pieces(part, rows, spans, self._buffers)

        def kernel(piece: int, slot: int) -> None:
            part.gather(pieces.rows(piece), pieces.on_device(piece, slot))

        def bus(piece: int, slot: int) -> None:
            for host, device in pieces.pairs(piece, slot):
                host.copy_(device, non_blocking=True)

        with self._lock:
            self._kernels.wait(after)
            stages = (StreamStage(self._kernels, kernel), StreamStage(self._bus, bus))
            self._run(stages, pieces.count)

    def scatter(
        self, part: CachePart, rows: BlockRows, spans: Sequence[Slot], after: DeviceEvent
    ) -> None:
        """Copies chunks out of host memory into a cache; they are there when it returns.

        Arguments and errors as `gather`: what the engine was computing may have read the blocks.
        `SKIP_BLOCK` leaves a block alone.
        """
        pieces = _Pieces(part, rows, spans, self._buffers)

        def bus(piece: int, slot: int) -> None:
            for host, device in pieces.pairs(piece, slot):
                device.copy_(host, non_blocking=True)

        def kernel(piece: int, slot: int) -> None:
            part.scatter(pieces.on_device(piece, slot), pieces.rows(piece))

        with self._lock:
            self._kernels.wait(after)
            stages = (StreamStage(self._bus, bus), StreamStage(self._kernels, kernel))
            self._run(stages, pieces.count)

    def _run(self, stages: tuple[StreamStage, StreamStage], num_pieces: int) -> None:
        """Copies, without a deadline: a device ends what it has begun, or is lost."""
        if not num_pieces:
            return
        copy = self._pump.submit(stages, num_pieces)
        state = self._pump.wait(copy, math.inf)
        self._pump.wait_quiet(math.inf)
        if state is not TransferState.DONE:
            raise DeviceError(copy.problem)


class _Pieces:
    """A copy cut into pieces of as many chunks as a buffer of the ring holds."""

    def __init__(
        self,
        part: CachePart,
        rows: BlockRows,
        spans: Sequence[Slot],
        buffers: "torch.Tensor",
    ) -> None:
        self._span_bytes = part.num_bytes
        self._ranges = part.ranges
        self._rows, self._spans, self._buffers = rows, spans, buffers
        self._per_piece = max(1, buffers.shape[1] // self._span_bytes)
        self.count = -(-len(spans) // self._per_piece)

    def rows(self, piece: int) -> BlockRows:
        return self._rows[self._of(piece)]

    def on_device(self, piece: int, slot: int) -> "list[torch.Tensor]":
        count = len(self._spans[self._of(piece)])
        used = self._buffers[slot, : count * self._span_bytes]
        return list(used.view(count, self._span_bytes))

    def pairs(self, piece: int, slot: int) -> "list[tuple[torch.Tensor, torch.Tensor]]":
        """Returns what is copied of each chunk, on the host and in a buffer.

        Other heads of a chunk are left alone: somebody else may be writing them.
        """
        host = [_tensor(span) for span in self._spans[self._of(piece)]]
        both = zip(host, self.on_device(piece, slot), strict=True)
        return [
            (span[start : start + length], buffer[start : start + length])
            for span, buffer in both
            for start, length in self._ranges
        ]

    def _of(self, piece: int) -> "slice[int, int, None]":
        return slice(piece * self._per_piece, (piece + 1) * self._per_piece)


def _allocate(device: DeviceName, size: RingSize) -> "torch.Tensor":
    try:
        import torch  # noqa: PLC0415  an optional package

        shape = size.num_slots, size.slot_bytes
        return torch.empty(shape, dtype=torch.uint8, device=device.torch_name)
    except ImportError as error:
        raise MemoryUnavailableError("device memory needs torch: p2p-kv[torch]") from error
    except RuntimeError as error:
        reason = f"no {size.num_bytes} bytes on {device.torch_name}: {error}"
        raise MemoryUnavailableError(reason) from error


def _tensor(span: Slot) -> "torch.Tensor":
    """Returns the bytes of a span, which may be read-only for others, as a tensor."""
    if not isinstance(span, np.ndarray):
        return span
    import torch  # noqa: PLC0415  an optional package

    alias = host_bytes(span.ctypes.data, span.size, is_writable=True)
    return torch.from_numpy(alias)
