"""Memory to measure copies on: a paged cache larger than processor caches, and slots.

Each kind of layout is a view of the same bytes, of any span and number of rows.
"""

import math
from functools import cached_property
from typing import NamedTuple

import numpy as np

from p2p_kernels.base import Slot
from p2p_kernels.costs import Direction, LayoutKind
from p2p_kernels.memory import PageAxes, PageMemory, Tensor
from p2p_kernels.plan import CopyPlan, CopyShape, copy_shape, plan_blocks
from p2p_kernels.specs import ChunkSpec

PAGE_BYTES = 64 << 20
SLOT_BYTES = 16 << 20
_TOKENS, _HEADS = 4, 4


class Point(NamedTuple):
    """A size of copy: bytes of a row, and how many of them in how many planes."""

    run_bytes: int
    planes: int
    rows_per_plane: int


class Case(NamedTuple):
    """One size of copy on scratch memory; blocks and slots change from copy to copy."""

    memory: PageMemory
    shape: CopyShape


class Scratch:
    """Bytes of a paged cache and of slots on one device. Costs some 30 ms on the host.

    Args:
        device: as torch writes it; ``cpu`` needs no torch.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.pages = _filled(PAGE_BYTES, device)
        self.slots = _filled(SLOT_BYTES, device)

    def case(self, kind: LayoutKind, point: Point) -> Case:
        """Returns the memory and the shape of copies of one chunk."""
        memory = PageMemory.of_tensors(self._tensor(kind, point), _AXES[kind])
        page = memory.spec
        num_blocks = max(1, point.rows_per_plane // (page.block_tokens * page.num_heads))
        chunk = ChunkSpec.canonical(
            point.planes, page.num_heads, num_blocks * page.block_tokens, page.head_dim, 1
        )
        return Case(memory, copy_shape(page, chunk))

    @cached_property
    def host_slots(self) -> Slot:
        """Bytes of slots in host memory."""
        return _filled(SLOT_BYTES, "cpu")

    def copy(self, case: Case, direction: Direction, seed: int) -> tuple[CopyPlan, list[Slot]]:
        """Returns what one copy takes; another seed takes other blocks and another slot."""
        shape = case.shape
        blocks = np.random.default_rng(seed).permutation(shape.page.num_blocks)
        chunk_bytes = shape.chunk.chunk_bytes
        start = seed % max(1, SLOT_BYTES // chunk_bytes) * chunk_bytes
        slots = self.slots if direction.is_on_device else self.host_slots
        return plan_blocks(shape, blocks[: shape.blocks.size]), [slots[start : start + chunk_bytes]]

    def _tensor(self, kind: LayoutKind, point: Point) -> Tensor:
        """Returns the pages as a tensor with the axes of the kind."""
        run = point.run_bytes
        if kind is LayoutKind.BLOCKS:
            inner: tuple[int, ...] = (run,)
        else:
            inner = (_TOKENS, _HEADS, run + (run // 2 if kind is LayoutKind.STRIDED else 0))
        num_blocks = PAGE_BYTES // point.planes // math.prod(inner)
        shape = (point.planes, num_blocks, *inner)
        return self.pages[: math.prod(shape)].reshape(shape)[..., :run]


_AXES = {
    LayoutKind.BLOCKS: PageAxes.OPAQUE_KV_FIRST,
    LayoutKind.ROWS: PageAxes.KV_FIRST_NHD,
    LayoutKind.STRIDED: PageAxes.KV_FIRST_NHD,
}


def _filled(num_bytes: int, device: str) -> Slot:
    if device == "cpu":
        return np.full(num_bytes, 1, np.uint8)
    import torch  # noqa: PLC0415 - optional package

    return torch.full((num_bytes,), 1, dtype=torch.uint8, device=device)
