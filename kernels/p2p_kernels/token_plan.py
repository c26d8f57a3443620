"""Plans for single tokens: where a chunk is no whole number of blocks.

That is so where block sizes differ: an engine's blocks are longer than a chunk, or a chunk starts
inside of one. Tokens are placed by token slots, as engines do: ``block * block_tokens + offset``.
What lies together is copied together, as far as it does so in every chunk of the call. Pure.

Shapes: C chunks of a call, T tokens of a chunk, G groups of a chunk.
"""

import math

import numpy as np

from p2p.errors import ArgumentError
from p2p_kernels.plan import (
    SKIP_BLOCK,
    BlockIds,
    CopyPlan,
    CopyShape,
    Int64s,
    copy_shape,
    int_array,
)
from p2p_kernels.specs import ChunkSpec, HeadRange, PageSpec

_MAX_SLOT = 1 << 62


def token_slots(block_ids: BlockIds, block_tokens: int, tokens: range) -> Int64s:
    """Returns the token slots of some consecutive tokens of a request.

    Args:
        block_ids: (N,) the request's blocks in token order; `SKIP_BLOCK` leaves one out.
        block_tokens: tokens of a block.
        tokens: which tokens of the request, counted from its first.

    Raises:
        ArgumentError: a token is outside of the blocks, or an id is that of no block.
    """
    ids, where = int_array(block_ids).reshape(-1), np.asarray(tokens, np.int64)
    limit = ids.size * block_tokens
    if where.size and not (int(where.min()) >= 0 and int(where.max()) < limit):
        raise ArgumentError("tokens", tokens, f"{ids.size} blocks have {limit} tokens")
    for worst in (int(ids.min()), int(ids.max())) if ids.size else ():
        if not SKIP_BLOCK <= worst <= _MAX_SLOT // block_tokens:
            raise ArgumentError("block_ids", worst, "no block of a cache")
    blocks = ids[where // block_tokens]
    slots = blocks * block_tokens + where % block_tokens
    return np.where(blocks == SKIP_BLOCK, SKIP_BLOCK, slots)


def token_plan(
    page: PageSpec, chunk: ChunkSpec, slots: BlockIds, heads: HeadRange | None = None
) -> CopyPlan:
    """Returns the plan that copies chunks between single tokens of a paged cache and slots.

    Args:
        page: the paged cache.
        chunk: the chunk; its tokens need be no multiple of a block's.
        slots: the token slots of one or more chunks in token order, flat or one row per chunk;
            `SKIP_BLOCK` leaves a token out.
        heads: which heads to copy; all, if left out.

    Raises:
        ArgumentError: what does not fit, by name and value.
    """
    slots_CT = _checked_slots(page, chunk, slots)
    group = _group_tokens(slots_CT, math.gcd(page.block_tokens, chunk.chunk_tokens))
    shape = copy_shape(page, chunk, heads, group)
    return CopyPlan(shape, _group_ids(shape, slots_CT[:, ::group]))


def _checked_slots(page: PageSpec, chunk: ChunkSpec, slots: BlockIds) -> Int64s:
    given = int_array(slots)
    if given.size % chunk.chunk_tokens or (
        given.ndim != 1 and given.shape[1:] != (chunk.chunk_tokens,)
    ):
        reason = f"a chunk has {chunk.chunk_tokens} tokens: a multiple of that, or a row per chunk"
        raise ArgumentError("token_slots", f"slots of shape {given.shape}", reason)
    limit = page.num_blocks * page.block_tokens
    for worst in (int(given.min()), int(given.max())) if given.size else ():
        if not SKIP_BLOCK <= worst < limit:
            raise ArgumentError("token_slots", worst, f"the cache has tokens 0 to {limit - 1}")
    return given.reshape(-1, chunk.chunk_tokens)


def _group_tokens(slots: Int64s, most: int) -> int:
    """Returns the most tokens that lie together everywhere: aligned, in order, in one block."""
    for group in range(most, 1, -1):
        if most % group == 0 and _are_together(slots.reshape(-1, group)):
            return group
    return 1


def _are_together(groups: Int64s) -> bool:
    first, skipped = groups[:, :1], groups == SKIP_BLOCK
    in_order = (groups - first == np.arange(groups.shape[1])).all(axis=1)
    aligned = groups[:, 0] % groups.shape[1] == 0
    return bool((skipped.all(axis=1) | (in_order & aligned & ~skipped[:, 0])).all())


def _group_ids(shape: CopyShape, first: Int64s) -> Int64s:
    """Returns for the first token slot of every group how many strides it is from its plane."""
    page = shape.page
    block, offset = np.divmod(first, page.block_tokens)
    ids = (block * page.stride_block + offset * page.stride_token) // shape.blocks.page_stride
    return np.where(first == SKIP_BLOCK, SKIP_BLOCK, ids)
