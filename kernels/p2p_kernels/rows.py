"""Copies as rows: a plane is a list of equal rows, and a chunk names the rows that it takes.

That is the form in which one vectorised call per plane (`take`, `index_select`) does the whole
transpose from token-major pages to head-major chunks. A row is a plan's run.

Shapes: N blocks of a chunk, R rows of one plane of a chunk.
"""

from dataclasses import dataclass

import numpy as np

from p2p_kernels.plan import SKIP_BLOCK, CopyShape, Dim, Int64s


@dataclass(frozen=True, slots=True, eq=False)
class RowMap:
    """Which rows of a plane a chunk takes.

    Attributes:
        row_bytes: bytes of a row.
        rows_per_plane: rows of a plane of the paged cache, unused ones between included.
        chunk_starts: for every plane, the row of the chunk where it starts.
        rows_per_chunk_plane: R, rows that one plane of a chunk takes; they follow each other there.
        block_step: rows from a block to the next.
        inner: rows of block 0 in the chunk's order, with an axis of one for the blocks.
    """

    row_bytes: int
    rows_per_plane: int
    chunk_starts: tuple[int, ...]
    rows_per_chunk_plane: int
    block_step: int
    inner: Int64s

    def page_rows(self, block_ids: Int64s) -> Int64s:
        """Returns (R,) the rows of a plane that make up a chunk's, in the chunk's order.

        Args:
            block_ids: (N,) the chunk's blocks; skipped ones have rows too, below zero or not.
        """
        return (self.inner + (block_ids * self.block_step)[:, None]).reshape(-1)

    def kept_rows(self, block_ids: Int64s) -> Int64s:
        """Returns which of the R rows belong to blocks that are not skipped, as indices."""
        kept = np.broadcast_to((block_ids != SKIP_BLOCK)[:, None], self._full_shape(block_ids))
        return np.flatnonzero(kept)

    def _full_shape(self, block_ids: Int64s) -> tuple[int, ...]:
        outer, _, inner = self.inner.shape
        return outer, len(block_ids), inner


def row_map(shape: CopyShape) -> RowMap | None:
    """Returns the row form of copies of a shape, or none if the pages are no list of rows.

    That is so where a stride of the paged cache is no multiple of the run (padded rows).
    """
    run = shape.run_bytes
    steps = [shape.blocks.page_stride, shape.page_start, *(dim.page_stride for dim in shape.dims)]
    steps += shape.chunk_start, shape.chunk.stride_plane
    if any(step % run for step in steps) or not _is_dense(shape):
        return None
    outer = [dim for dim in shape.dims if dim.chunk_stride >= shape.blocks.chunk_stride]
    inner = [dim for dim in shape.dims if dim.chunk_stride < shape.blocks.chunk_stride]
    first_rows = (
        shape.page_start // run + _steps(outer, run)[:, None, None] + _steps(inner, run)[None, None]
    )
    planes = range(shape.chunk.num_planes)
    return RowMap(
        row_bytes=run,
        rows_per_plane=shape.page.plane_span_bytes // run,
        chunk_starts=tuple(
            (plane * shape.chunk.stride_plane + shape.chunk_start) // run for plane in planes
        ),
        rows_per_chunk_plane=first_rows.size * shape.blocks.size,
        block_step=shape.blocks.page_stride // run,
        inner=first_rows,
    )


def _is_dense(shape: CopyShape) -> bool:
    """True if what a plane of the chunk takes is one span."""
    expected = shape.run_bytes
    dims = sorted((*shape.dims, shape.blocks), key=lambda dim: dim.chunk_stride)
    for dim in dims:
        if dim.size > 1 and dim.chunk_stride != expected:
            return False
        expected *= dim.size
    return True


def _steps(dims: list[Dim], run_bytes: int) -> Int64s:
    rows = np.zeros(1, np.int64)
    for dim in dims:
        steps = np.arange(dim.size, dtype=np.int64) * (dim.page_stride // run_bytes)
        rows = (rows[:, None] + steps).ravel()
    return rows
