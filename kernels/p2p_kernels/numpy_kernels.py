"""NumPy: the fastest on the host in one thread.

One indexed copy of whole rows per plane. Rows are of a void type as wide as the run: NumPy then
moves each with one memcpy, allocates nothing and releases the interpreter lock. Going through a
block-ordered buffer in cache, either way, was measured to be no faster. Where pages are no list of
rows, one strided copy per block and plane.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from p2p.errors import ArgumentError
from p2p_kernels.base import Slot, check_host, host_slot
from p2p_kernels.memory import PageMemory, Uint8s, host_bytes
from p2p_kernels.plan import SKIP_BLOCK, CopyPlan, CopyShape, Piece
from p2p_kernels.rows import RowMap, row_map

Rows = npt.NDArray[np.void]


class _Part(NamedTuple):
    """Some of a chunk's rows, in every plane."""

    start: int
    stop: int


class NumpyCopier:
    """Copies in host memory, in the calling thread."""

    name = "numpy"

    def __init__(self, memory: PageMemory) -> None:
        check_host(memory, self.name)
        self.memory = memory  # keeps the tensors alive, which the views below do not
        span = memory.spec.plane_span_bytes
        self._planes = [
            host_bytes(address, span, is_writable=memory.is_writable)
            for address in memory.spec.planes
        ]
        self._prepared: tuple[CopyShape | None, RowMap | None, list[Rows]] = (None, None, [])

    def gather(self, plan: CopyPlan, slots: Sequence[Slot]) -> None:
        """See `Copier.gather`."""
        rows, planes = self._prepare(plan.shape)
        for chunk, slot in enumerate(slots):
            target = host_slot(slot)
            if rows is None:
                self._copy_pieces(plan, chunk, target, to_chunk=True)
            else:
                self._gather_rows(rows, planes, plan.block_ids[chunk], target)

    def scatter(self, plan: CopyPlan, slots: Sequence[Slot]) -> None:
        """See `Copier.scatter`."""
        rows, planes = self._prepare(plan.shape)
        for chunk, slot in enumerate(slots):
            source = host_slot(slot)
            if rows is None:
                self._copy_pieces(plan, chunk, source, to_chunk=False)
            else:
                self._scatter_rows(rows, planes, plan.block_ids[chunk], source)

    def _copy_pieces(self, plan: CopyPlan, chunk: int, slot: Uint8s, *, to_chunk: bool) -> None:
        pieces = list(plan.pieces(chunk))

        def copy(part: _Part) -> None:
            for in_page, in_chunk in self._views(plan, pieces[part.start : part.stop], slot):
                if to_chunk:
                    np.copyto(in_chunk, in_page)
                else:
                    np.copyto(in_page, in_chunk)

        self._in_parts(len(pieces), copy)

    def _in_parts(self, num_rows: int, copy: Callable[[_Part], None]) -> None:
        """Copies rows of every plane, or pieces; here all of them at once."""
        copy(_Part(0, num_rows))

    def _gather_rows(
        self, rows: RowMap, planes: list[Rows], block_ids: npt.NDArray[np.int64], slot: Uint8s
    ) -> None:
        index = rows.page_rows(block_ids)
        target = slot.view(_row_type(rows))

        def copy(part: _Part) -> None:
            for plane, start in zip(planes, rows.chunk_starts, strict=True):
                # Any mode but "clip" makes take buffer its output; the ids were checked.
                wanted = target[start + part.start : start + part.stop]
                plane.take(index[part.start : part.stop], out=wanted, mode="clip")

        self._in_parts(index.size, copy)

    def _scatter_rows(
        self, rows: RowMap, planes: list[Rows], block_ids: npt.NDArray[np.int64], slot: Uint8s
    ) -> None:
        index = rows.page_rows(block_ids)
        source = slot.view(_row_type(rows))
        kept = None
        if int(block_ids.min()) == SKIP_BLOCK:
            kept = rows.kept_rows(block_ids)
            index = index[kept]

        def copy(part: _Part) -> None:
            chosen = index[part.start : part.stop]
            places = slice(part.start, part.stop) if kept is None else kept[part.start : part.stop]
            for plane, start in zip(planes, rows.chunk_starts, strict=True):
                plane[chosen] = source[start:][places]

        self._in_parts(index.size, copy)

    def _prepare(self, shape: CopyShape) -> tuple[RowMap | None, list[Rows]]:
        """Returns the row form of a shape; the last one is kept, as nearly all calls share it."""
        known, rows, planes = self._prepared
        if known is not shape:
            rows, planes = row_map(shape), []
            if rows is not None:
                used, row_type = rows.rows_per_plane * rows.row_bytes, _row_type(rows)
                planes = [plane[:used].view(row_type) for plane in self._planes]
            self._prepared = (shape, rows, planes)
        return rows, planes

    def _views(
        self, plan: CopyPlan, pieces: Sequence[Piece], slot: Uint8s
    ) -> Iterator[tuple[Uint8s, Uint8s]]:
        """Yields the same block in the paged cache and in the chunk, as views of equal shape."""
        shape = plan.shape
        sizes = (*(dim.size for dim in shape.dims), shape.run_bytes)
        page_strides = (*(dim.page_stride for dim in shape.dims), 1)
        chunk_strides = (*(dim.chunk_stride for dim in shape.dims), 1)
        for plane, in_page, in_chunk in pieces:
            yield (
                np.ndarray(sizes, np.uint8, self._planes[plane], in_page, page_strides),
                np.ndarray(sizes, np.uint8, slot, in_chunk, chunk_strides),
            )


def _row_type(rows: RowMap) -> np.dtype[np.void]:
    return np.dtype((np.void, rows.row_bytes))


class ThreadedNumpyCopier(NumpyCopier):
    """The same in several threads at once, each with its part of every plane's rows.

    Faster only where processors are idle and one cannot use up the memory's bandwidth. The threads
    are those of the process: an engine's cache has a copier for each layer.
    """

    name = "numpy-threads"
    max_threads = 4

    def __init__(self, memory: PageMemory) -> None:
        super().__init__(memory)
        self.num_threads = min(self.max_threads, len(os.sched_getaffinity(0)))
        if self.num_threads < 2:
            raise ArgumentError("processors", self.num_threads, "threads need two of them")

    def _in_parts(self, num_rows: int, copy: Callable[[_Part], None]) -> None:
        ends = [num_rows * part // self.num_threads for part in range(self.num_threads + 1)]
        parts = [_Part(*pair) for pair in pairwise(ends)]
        threads = _threads(os.getpid(), self.max_threads - 1)
        others = [threads.submit(copy, part) for part in parts[1:]]
        try:
            copy(parts[0])
        finally:
            wait(others)  # nobody writes any more when an error is told
        for other in others:
            other.result()


@cache
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    """Returns the threads of a process; one that was forked has none of its parent's."""
    return ThreadPoolExecutor(count, f"p2p-kernels-{process}")
