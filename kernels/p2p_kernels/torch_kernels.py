"""Torch: `index_select` and `index_copy_`, on whatever device torch knows.

For caches on devices; on the host NumPy is faster and needs no torch. One call per plane, on flat
views of the widest type that fits; where pages are no list of rows, one strided copy per block and
plane. Calls are ordered on the current stream.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from p2p_kernels.base import Slot
from p2p_kernels.memory import PageMemory, host_bytes
from p2p_kernels.plan import SKIP_BLOCK, CopyPlan, CopyShape
from p2p_kernels.rows import RowMap, row_map

if TYPE_CHECKING:
    from p2p_kernels.plan import Int64s

_WORD_BY_BYTES = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}


class TorchCopier:
    """Copies on the cache's device; slots elsewhere go through one chunk of memory there."""

    name = "torch"

    def __init__(self, memory: PageMemory) -> None:
        self.memory = memory
        self._device = torch.device(memory.spec.device)
        self._planes = plane_bytes(memory)
        self._staging: torch.Tensor | None = None
        self._prepared: tuple[CopyShape | None, RowMap | None, list[torch.Tensor]]
        self._prepared = (None, None, [])

    def gather(self, plan: CopyPlan, slots: Sequence[Slot]) -> None:
        """See `Copier.gather`. Returns after the copy for slots on the host."""
        rows, planes = self._prepare(plan.shape)
        for chunk, slot in enumerate(slots):
            wanted = as_tensor(slot)
            target = self._on_device(wanted)
            if target is not wanted and has_gaps(plan.shape):  # which are copied back too
                copy_span(plan.shape, wanted, target)
            if rows is None:
                for page_piece, chunk_piece in self._pieces(plan, chunk, target):
                    chunk_piece.copy_(page_piece)
            else:
                self._gather_rows(rows, planes, plan.block_ids[chunk], target)
            if target is not wanted:
                copy_span(plan.shape, target, wanted)

    def scatter(self, plan: CopyPlan, slots: Sequence[Slot]) -> None:
        """See `Copier.scatter`."""
        rows, planes = self._prepare(plan.shape)
        for chunk, slot in enumerate(slots):
            given = as_tensor(slot)
            source = self._on_device(given)
            if source is not given:
                copy_span(plan.shape, given, source)
            if rows is None:
                for page_piece, chunk_piece in self._pieces(plan, chunk, source):
                    page_piece.copy_(chunk_piece)
            else:
                self._scatter_rows(rows, planes, plan.block_ids[chunk], source)

    def _gather_rows(
        self, rows: RowMap, planes: list[torch.Tensor], block_ids: "Int64s", target: torch.Tensor
    ) -> None:
        index_R = torch.from_numpy(rows.page_rows(block_ids)).to(self._device)
        target_RW = _words(target, rows, planes[0].dtype)
        for plane_RW, start in zip(planes, rows.chunk_starts, strict=True):
            part_RW = target_RW[start : start + rows.rows_per_chunk_plane]
            self._select(plane_RW, index_R, part_RW)

    def _scatter_rows(
        self, rows: RowMap, planes: list[torch.Tensor], block_ids: "Int64s", source: torch.Tensor
    ) -> None:
        index = rows.page_rows(block_ids)
        kept_R = None
        if int(block_ids.min()) == SKIP_BLOCK:
            kept = rows.kept_rows(block_ids)
            kept_R, index = torch.from_numpy(kept).to(self._device), index[kept]
        index_R = torch.from_numpy(index).to(self._device)
        source_RW = _words(source, rows, planes[0].dtype)
        for plane_RW, start in zip(planes, rows.chunk_starts, strict=True):
            part_RW = source_RW[start : start + rows.rows_per_chunk_plane]
            if kept_R is not None:
                part_RW = part_RW.index_select(0, kept_R)
            self._put(plane_RW, index_R, part_RW)

    def _select(self, plane: torch.Tensor, index: torch.Tensor, part: torch.Tensor) -> None:
        """Copies (R) rows of a plane out, to (R, W) words."""
        torch.index_select(plane, 0, index, out=part)

    def _put(self, plane: torch.Tensor, index: torch.Tensor, part: torch.Tensor) -> None:
        """Copies (R, W) words into (R) rows of a plane, which differ."""
        plane.index_copy_(0, index, part)

    def _prepare(self, shape: CopyShape) -> tuple[RowMap | None, list[torch.Tensor]]:
        """Returns the row form of a shape; the last one is kept, as nearly all calls share it."""
        known, rows, planes = self._prepared
        if known is not shape:
            rows, planes = row_map(shape), []
            if rows is not None:
                word = _WORD_BY_BYTES[min(8, shape.access_bytes)]
                used = rows.rows_per_plane * rows.row_bytes
                planes = [_words(plane[:used], rows, word) for plane in self._planes]
            self._prepared = (shape, rows, planes)
        return rows, planes

    def _on_device(self, slot: torch.Tensor) -> torch.Tensor:
        if slot.device == self._device:
            return slot
        if self._staging is None or self._staging.numel() != slot.numel():
            self._staging = torch.empty(slot.numel(), dtype=torch.uint8, device=self._device)
        return self._staging

    def _pieces(
        self, plan: CopyPlan, chunk: int, slot: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yields the same block in the paged cache and in the chunk, as views of equal shape."""
        shape = plan.shape
        sizes = (*(dim.size for dim in shape.dims), shape.run_bytes)
        page_strides = (*(dim.page_stride for dim in shape.dims), 1)
        chunk_strides = (*(dim.chunk_stride for dim in shape.dims), 1)
        for number, in_page, in_chunk in plan.pieces(chunk):
            plane = self._planes[number]
            yield (
                plane.as_strided(sizes, page_strides, plane.storage_offset() + in_page),
                slot.as_strided(sizes, chunk_strides, slot.storage_offset() + in_chunk),
            )


def plane_bytes(memory: PageMemory) -> list[torch.Tensor]:
    """Returns a view of the bytes of every plane."""
    spec, planes = memory.spec, []
    per_tensor = len(spec.planes) // len(memory.tensors)
    for number, address in enumerate(spec.planes):
        owner = memory.tensors[number // per_tensor]
        if isinstance(owner, np.ndarray):
            plane = host_bytes(address, spec.plane_span_bytes, is_writable=True)
            planes.append(torch.from_numpy(plane))
            continue
        storage = owner.untyped_storage()
        everything = torch.empty(0, dtype=torch.uint8, device=owner.device).set_(storage)
        start = address - storage.data_ptr()
        planes.append(everything[start : start + spec.plane_span_bytes])
    return planes


def _words(span: torch.Tensor, rows: RowMap, word: torch.dtype) -> torch.Tensor:
    return span.view(word).view(-1, rows.row_bytes // word.itemsize)


def as_tensor(slot: Slot) -> torch.Tensor:
    """Returns a slot as a tensor over the same bytes."""
    if not isinstance(slot, np.ndarray):
        return slot
    return torch.from_numpy(host_bytes(slot.ctypes.data, slot.size, is_writable=True))


def copy_span(shape: CopyShape, source: torch.Tensor, target: torch.Tensor) -> None:
    """Copies what a plan touches of a chunk, and nothing else of it."""
    span = shape.heads.count * shape.chunk.stride_head
    if span == shape.chunk.stride_plane:
        target.copy_(source)
        return
    for plane in range(shape.chunk.num_planes):
        start = plane * shape.chunk.stride_plane + shape.chunk_start
        target[start : start + span].copy_(source[start : start + span])


def has_gaps(shape: CopyShape) -> bool:
    """True if a plan leaves bytes alone inside the span that it touches of a plane."""
    chunk = shape.chunk
    return (
        chunk.stride_token != chunk.row_bytes
        or chunk.stride_head != chunk.chunk_tokens * chunk.stride_token
        or chunk.stride_plane != chunk.num_heads * chunk.stride_head
    )
