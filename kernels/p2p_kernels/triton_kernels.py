"""Triton: gather and scatter on NVIDIA and AMD devices.

A program copies a tile of rows of one plane of one chunk; planes are looked up in an array of
addresses. Sizes and strides are constants of the compiled kernel, so that Triton sees alignment
and divides by multiplying; each shape is compiled once. Calls are ordered on torch's current
stream. In Triton's interpreter (``TRITON_INTERPRET=1`` before the first import) the same kernel
runs in host memory, for tests.

Shapes: R rows of a tile, W words of a tile's row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from p2p.errors import ArgumentError
from p2p_kernels.base import Slot
from p2p_kernels.batches import Batch, device_scope, gather_batches, on_device, scatter_batches
from p2p_kernels.launch import KernelShape
from p2p_kernels.memory import PageMemory
from p2p_kernels.plan import CopyPlan, CopyShape

_TILE_WORDS = 2048
_MAX_ROW_WORDS = 1024
_WORD_BY_BYTES = {8: tl.int64, 4: tl.int32, 2: tl.int16, 1: tl.int8}


# One argument lies behind the other in memory, so their alignment says nothing worth a compilation.
@triton.jit(do_not_specialize_on_alignment=["planes", "slots", "block_ids"])
def copy_rows(
    planes,
    slots,
    block_ids,
    TO_CHUNK: tl.constexpr,
    WORD: tl.constexpr,
    ALIGN: tl.constexpr,
    BLOCKS: tl.constexpr,
    OUTER: tl.constexpr,
    INNER: tl.constexpr,
    ROW_WORDS: tl.constexpr,
    PAGE_START: tl.constexpr,
    PAGE_BLOCK: tl.constexpr,
    PAGE_OUTER: tl.constexpr,
    PAGE_INNER: tl.constexpr,
    CHUNK_START: tl.constexpr,
    CHUNK_PLANE: tl.constexpr,
    CHUNK_BLOCK: tl.constexpr,
    CHUNK_OUTER: tl.constexpr,
    CHUNK_INNER: tl.constexpr,
    R: tl.constexpr,
    W: tl.constexpr,
):
    """Copies a tile; a row longer than a tile's is several pieces. Strides are in words."""
    pieces: tl.constexpr = (ROW_WORDS + W - 1) // W
    plane = tl.program_id(1)
    chunk = tl.program_id(2)
    at_R = tl.program_id(0) * R + tl.arange(0, R)
    row_R = at_R // pieces
    word_RW = (at_R % pieces * W)[:, None] + tl.arange(0, W)[None, :]
    inner_R = (row_R % INNER).to(tl.int64)
    outer_R = (row_R // INNER % OUTER).to(tl.int64)
    number_R = row_R // (INNER * OUTER)
    inside_R = number_R < BLOCKS
    block_R = tl.load(block_ids + chunk * BLOCKS + number_R, mask=inside_R, other=-1)
    copied_RW = (block_R >= 0)[:, None] & (word_RW < ROW_WORDS)
    page_R = PAGE_START + block_R * PAGE_BLOCK + outer_R * PAGE_OUTER + inner_R * PAGE_INNER
    chunk_R = CHUNK_START + number_R.to(tl.int64) * CHUNK_BLOCK
    chunk_R += outer_R * CHUNK_OUTER + inner_R * CHUNK_INNER + plane.to(tl.int64) * CHUNK_PLANE
    page = tl.multiple_of(tl.load(planes + plane).to(tl.pointer_type(WORD)), ALIGN)
    slot = tl.multiple_of(tl.load(slots + chunk).to(tl.pointer_type(WORD)), ALIGN)
    in_page_RW = page + page_R[:, None] + word_RW
    in_chunk_RW = slot + chunk_R[:, None] + word_RW
    if TO_CHUNK:
        tl.store(in_chunk_RW, tl.load(in_page_RW, mask=copied_RW), mask=copied_RW)
    else:
        tl.store(in_page_RW, tl.load(in_chunk_RW, mask=copied_RW), mask=copied_RW)


@dataclass(frozen=True, slots=True)
class RowTile:
    """How a kernel is specialised for a shape and a width of accesses.

    Attributes:
        constants: the kernel's constants by name.
        programs_per_plane: tiles of one plane of a chunk.
    """

    constants: dict[str, object]
    programs_per_plane: int

    @classmethod
    def of(cls, shape: KernelShape, access_bytes: int) -> "RowTile":
        """Returns the tile for a shape; two words of 8 bytes make an access of 16."""
        word_bytes = min(8, access_bytes)
        copy, outer, inner = shape.copy, shape.outer, shape.inner
        row_words = shape.words_per_plane(word_bytes) // shape.rows_per_plane
        words = _tile_width(row_words)
        rows = _TILE_WORDS // words
        strides = {
            "PAGE_START": copy.page_start,
            "PAGE_BLOCK": copy.blocks.page_stride,
            "PAGE_OUTER": outer.page_stride,
            "PAGE_INNER": inner.page_stride,
            "CHUNK_START": copy.chunk_start,
            "CHUNK_PLANE": copy.chunk.stride_plane,
            "CHUNK_BLOCK": copy.blocks.chunk_stride,
            "CHUNK_OUTER": outer.chunk_stride,
            "CHUNK_INNER": inner.chunk_stride,
        }
        constants: dict[str, object] = {
            "WORD": _WORD_BY_BYTES[word_bytes],
            "ALIGN": access_bytes,
            "BLOCKS": copy.blocks.size,
            "OUTER": outer.size,
            "INNER": inner.size,
            "ROW_WORDS": row_words,
            **{name: stride // word_bytes for name, stride in strides.items()},
            "R": rows,
            "W": words,
        }
        pieces = shape.rows_per_plane * -(-row_words // words)
        return cls(constants, -(-pieces // rows))


class TritonCopier:
    """Copies on an NVIDIA or AMD device; slots elsewhere go through memory there.

    Raises:
        ArgumentError: the cache is in host memory, and Triton doesn't interpret.
    """

    name = "triton"

    def __init__(self, memory: PageMemory) -> None:
        self.memory = memory
        self._device = torch.device(memory.spec.device)
        if self._device.type == "cpu" and not triton.knobs.runtime.interpret:
            raise ArgumentError("device", memory.spec.device, "triton is for caches on devices")
        self._planes = on_device(memory.spec.planes, self._device)
        self._tiles: dict[tuple[CopyShape, int], RowTile] = {}

    def gather(self, plan: CopyPlan, slots: Sequence[Slot]) -> None:
        """See `Copier.gather`. Returns after the copy for slots on the host."""
        for batch in gather_batches(plan, slots, self._device):
            self._launch(plan.shape, batch, to_chunk=True)

    def scatter(self, plan: CopyPlan, slots: Sequence[Slot]) -> None:
        """See `Copier.scatter`."""
        for batch in scatter_batches(plan, slots, self._device):
            self._launch(plan.shape, batch, to_chunk=False)

    def _launch(self, copy: CopyShape, batch: Batch, *, to_chunk: bool) -> None:
        tile = self._tiles.get((copy, batch.access_bytes))
        if tile is None:
            tile = RowTile.of(KernelShape.of(copy), batch.access_bytes)
            self._tiles[copy, batch.access_bytes] = tile
        grid = (tile.programs_per_plane, copy.chunk.num_planes, batch.num_chunks)
        with device_scope(self._device):
            copy_rows[grid](
                self._planes, batch.slots, batch.block_ids, TO_CHUNK=to_chunk, **tile.constants
            )


def _tile_width(row_words: int) -> int:
    """Returns the words of a tile's row: a power of two that leaves few lanes idle."""
    divisor = row_words & -row_words
    if divisor >= 16:
        return min(divisor, _MAX_ROW_WORDS)
    return min(1 << (row_words - 1).bit_length(), _MAX_ROW_WORDS)
