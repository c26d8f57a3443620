"""Copy plans: which bytes go where, with everything merged that is contiguous on both sides.

`copy_shape` is worked out once per cache, `copy_plan` per call: it only adds the block ids. Every
implementation runs the same plan, and gather and scatter share it. A plan for single tokens (see
`token_plan`) is of the same form, with groups of tokens in the place of blocks: so implementations
take the place of id ``i`` from ``shape.blocks.page_stride``. Pure, no device, no memory.

Shapes: C chunks of a call, N blocks of a chunk, R byte ranges.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from p2p.errors import ArgumentError
from p2p_kernels.specs import ChunkSpec, HeadRange, PageSpec

SKIP_BLOCK = -1
_WIDEST_ACCESS_BYTES = 16
_MAX_ID = (1 << 63) - 1

Int64s = npt.NDArray[np.int64]
BlockIds: TypeAlias = (
    Sequence[int] | Sequence[Sequence[int]] | npt.NDArray[np.int64] | npt.NDArray[np.int32]
)


class Dim(NamedTuple):
    """One axis of a copy: its length, and the bytes of one step on either side."""

    size: int
    page_stride: int
    chunk_stride: int


@dataclass(frozen=True, slots=True)
class CopyShape:
    """What all copies between one paged cache and its chunks have in common.

    Attributes:
        page: the paged cache.
        chunk: the chunk.
        heads: which heads are copied.
        run_bytes: bytes that are contiguous on both sides.
        dims: the axes inside a block that are left, with the longest chunk stride first.
        group_tokens: tokens that one id places: those of a block, or a divisor of them.
        blocks: the axis over the groups of a chunk; id ``i`` is ``i * blocks.page_stride`` bytes
            behind its plane's address.
        page_start: bytes from a block's address to the first byte that is copied.
        chunk_start: bytes from a plane of the chunk to the first byte that is copied.
        access_bytes: widest power of two up to 16 that divides every address on the page side and
            every offset on the chunk side.
    """

    page: PageSpec
    chunk: ChunkSpec
    heads: HeadRange
    run_bytes: int
    dims: tuple[Dim, ...]
    group_tokens: int
    blocks: Dim
    page_start: int
    chunk_start: int
    access_bytes: int


class Piece(NamedTuple):
    """One block of one plane: where it starts on either side."""

    plane: int
    page_offset: int
    chunk_offset: int


@dataclass(frozen=True, slots=True, eq=False)
class CopyPlan:
    """A copy of whole chunks.

    Attributes:
        shape: what is copied from a block to its place in a chunk.
        block_ids: (C, N) blocks, or groups of tokens, of every chunk, in token order; `SKIP_BLOCK`
            leaves one out.
    """

    shape: CopyShape
    block_ids: Int64s

    @property
    def num_chunks(self) -> int:
        """Chunks that are copied, which is how many slots the plan takes."""
        return int(self.block_ids.shape[0])

    def pieces(self, chunk: int) -> Iterator[Piece]:
        """Yields the blocks of one chunk, over all planes, in the chunk's order."""
        shape = self.shape
        for plane in range(shape.chunk.num_planes):
            in_chunk = plane * shape.chunk.stride_plane + shape.chunk_start
            for number, block in enumerate(self.block_ids[chunk].tolist()):
                if block != SKIP_BLOCK:
                    in_page = block * shape.blocks.page_stride + shape.page_start
                    yield Piece(plane, in_page, in_chunk + number * shape.blocks.chunk_stride)

    def ranges(self, chunk: int) -> tuple[Int64s, Int64s, Int64s]:
        """Returns the copy of one chunk as flat byte ranges, in the chunk's order.

        Ranges that touch on both sides, over blocks and planes too, are one. This is what batched
        copies of drivers take, and what says how contiguous a copy is.

        Returns:
            Three arrays of R: addresses in the paged cache, offsets in the chunk, lengths in bytes.
        """
        shape, ids = self.shape, self.block_ids[chunk]
        axes = [
            (shape.chunk.stride_plane, np.array(shape.page.planes, np.int64)),
            (shape.blocks.chunk_stride, ids * shape.blocks.page_stride),
            *((dim.chunk_stride, np.arange(dim.size) * dim.page_stride) for dim in shape.dims),
        ]
        kept = [np.ones(steps.size, bool) for _, steps in axes]
        kept[1] = ids != SKIP_BLOCK
        page_R, chunk_R = np.array([shape.page_start]), np.array([shape.chunk_start])
        kept_R = np.ones(1, bool)
        # The longest stride first, so that the ranges come out in the chunk's order.
        for number in sorted(range(len(axes)), key=lambda axis: -axes[axis][0]):
            stride, steps = axes[number]
            page_R = (page_R[:, None] + steps).ravel()
            chunk_R = (chunk_R[:, None] + np.arange(steps.size) * stride).ravel()
            kept_R = (kept_R[:, None] & kept[number]).ravel()
        return _merge_ranges(page_R[kept_R], chunk_R[kept_R], shape.run_bytes)

    def access_bytes(self, slot_addresses: Sequence[int]) -> int:
        """Returns the widest access for pages and for slots that start at these addresses."""
        return math.gcd(self.shape.access_bytes, *slot_addresses)


def copy_shape(
    page: PageSpec,
    chunk: ChunkSpec,
    heads: HeadRange | None = None,
    group_tokens: int | None = None,
) -> CopyShape:
    """Returns what all copies between a paged cache and its chunks have in common.

    Args:
        page: the paged cache.
        chunk: the chunk.
        heads: which heads to copy; all, if left out, and then both sides have equally many.
        group_tokens: tokens that one id places, a divisor of a block's; a block, if left out.

    Raises:
        ArgumentError: the two do not fit, or heads are outside of either.
    """
    wanted = _checked_heads(page, chunk, heads)
    group = page.block_tokens if group_tokens is None else group_tokens
    _check_fit(page, chunk, group)
    tokens = Dim(group, page.stride_token, chunk.stride_token)
    run_bytes, dims = _merge_dims(
        page.row_bytes, [tokens, Dim(wanted.count, page.stride_head, chunk.stride_head)]
    )
    blocks = Dim(
        chunk.chunk_tokens // group, _stride_group(page, group), group * chunk.stride_token
    )
    page_start = wanted.page_head * page.stride_head
    chunk_start = wanted.chunk_head * chunk.stride_head
    steps = [run_bytes, page_start, chunk_start, chunk.stride_plane, *page.planes]
    for dim in (blocks, *dims):
        steps += dim.page_stride, dim.chunk_stride
    access = math.gcd(_WIDEST_ACCESS_BYTES, *steps)
    return CopyShape(
        page, chunk, wanted, run_bytes, dims, group, blocks, page_start, chunk_start, access
    )


def copy_plan(
    page: PageSpec, chunk: ChunkSpec, block_ids: BlockIds, heads: HeadRange | None = None
) -> CopyPlan:
    """Returns the plan that copies chunks between their blocks of a paged cache and slots.

    Args:
        page: the paged cache.
        chunk: the chunk.
        block_ids: the blocks of one or more chunks in token order, flat or one row per chunk;
            `SKIP_BLOCK` leaves a block out.
        heads: which heads to copy; all, if left out.

    Raises:
        ArgumentError: what does not fit, by name and value.
    """
    return plan_blocks(copy_shape(page, chunk, heads), block_ids)


def plan_blocks(shape: CopyShape, block_ids: BlockIds) -> CopyPlan:
    """Returns the plan of ``shape`` for these blocks; see `copy_plan`."""
    ids = int_array(block_ids)
    per_chunk = shape.blocks.size
    if ids.size % per_chunk or (ids.ndim != 1 and ids.shape[1:] != (per_chunk,)):
        reason = f"a chunk takes {per_chunk} blocks: a multiple of that, flat or a row per chunk"
        raise ArgumentError("block_ids", f"ids of shape {ids.shape}", reason)
    if ids.size:
        limit = shape.page.num_blocks
        for worst in (int(ids.min()), int(ids.max())):
            if not SKIP_BLOCK <= worst < limit:
                raise ArgumentError("block_ids", worst, f"the cache has blocks 0 to {limit - 1}")
    return CopyPlan(shape, ids.reshape(-1, per_chunk))


def int_array(block_ids: BlockIds) -> Int64s:
    """Returns ids as an array of 64-bit integers, whatever array or sequence they came in.

    Raises:
        ArgumentError: they are no integers, too large for one, or not as many in every row.
    """
    try:
        ids = np.asarray(block_ids)
    except ValueError as error:
        raise ArgumentError("block_ids", block_ids, "as many blocks in every chunk") from error
    if not ids.size:
        return np.empty(0, np.int64)
    if ids.dtype.kind not in "iu":
        raise ArgumentError("block_ids", str(ids.dtype), "block ids are integers")
    if ids.dtype.kind == "u" and int(ids.max()) > _MAX_ID:
        raise ArgumentError("block_ids", int(ids.max()), f"at most {_MAX_ID}")
    return ids.astype(np.int64, copy=False)


def _checked_heads(page: PageSpec, chunk: ChunkSpec, heads: HeadRange | None) -> HeadRange:
    if heads is None:
        if page.num_heads != chunk.num_heads:
            reason = f"the chunk has {chunk.num_heads}: say which heads to copy"
            raise ArgumentError("num_heads", page.num_heads, reason)
        return HeadRange(0, 0, page.num_heads)
    fits_page = 0 <= heads.page_head <= page.num_heads - heads.count
    fits_chunk = 0 <= heads.chunk_head <= chunk.num_heads - heads.count
    if heads.count < 1 or not fits_page or not fits_chunk:
        reason = f"the paged cache has {page.num_heads} heads and the chunk {chunk.num_heads}"
        raise ArgumentError("heads", heads, reason)
    return heads


def _check_fit(page: PageSpec, chunk: ChunkSpec, group_tokens: int) -> None:
    if len(page.planes) != chunk.num_planes:
        raise ArgumentError("planes", len(page.planes), f"the chunk has {chunk.num_planes}")
    if page.row_bytes != chunk.row_bytes:
        reason = f"a row of the page has {page.row_bytes} bytes, of the chunk {chunk.row_bytes}"
        raise ArgumentError("head_dim", page.head_dim, reason)
    if group_tokens < 1 or page.block_tokens % group_tokens:
        reason = f"no divisor of block_tokens = {page.block_tokens}"
        raise ArgumentError("group_tokens", group_tokens, reason)
    if chunk.chunk_tokens % group_tokens:
        name = "block_tokens" if group_tokens == page.block_tokens else "group_tokens"
        reason = f"no multiple of {name} = {group_tokens}"
        raise ArgumentError("chunk_tokens", chunk.chunk_tokens, reason)


def _stride_group(page: PageSpec, group_tokens: int) -> int:
    """Returns bytes of which every group of tokens is a whole number behind its plane's address."""
    if group_tokens == page.block_tokens:
        return page.stride_block
    return math.gcd(page.stride_block, group_tokens * page.stride_token)


def _merge_dims(run_bytes: int, inner_first: Sequence[Dim]) -> tuple[int, tuple[Dim, ...]]:
    """Folds axes into the run while they continue it on both sides."""
    left = sorted((dim for dim in inner_first if dim.size > 1), key=lambda dim: dim.chunk_stride)
    while left and left[0].page_stride == left[0].chunk_stride == run_bytes:
        run_bytes *= left.pop(0).size
    return run_bytes, tuple(reversed(left))


def _merge_ranges(page: Int64s, chunk: Int64s, run_bytes: int) -> tuple[Int64s, Int64s, Int64s]:
    if not page.size:
        return page, chunk, page
    apart = (np.diff(page) != run_bytes) | (np.diff(chunk) != run_bytes)
    first = np.concatenate(([0], np.flatnonzero(apart) + 1))
    lengths = np.diff(np.concatenate((first, [len(page)]))) * run_bytes
    return page[first], chunk[first], lengths
