"""The reference: loops over planes, heads and tokens that copy one row at a time.

It follows the two specs directly and shares nothing with the merging of plans, so that the other
implementations can be compared with it. For tests and for checking a new layout; slow.
"""

import ctypes
from collections.abc import Callable, Sequence

from p2p_kernels.base import Slot, check_host, host_slot
from p2p_kernels.memory import PageMemory
from p2p_kernels.plan import SKIP_BLOCK, CopyPlan


class ReferenceCopier:
    """Copies row by row in host memory."""

    name = "reference"

    def __init__(self, memory: PageMemory) -> None:
        check_host(memory, self.name)
        self.memory = memory

    def gather(self, plan: CopyPlan, slots: Sequence[Slot]) -> None:
        """See `Copier.gather`."""

        def copy(in_page: int, in_chunk: int, num_bytes: int) -> None:
            ctypes.memmove(in_chunk, in_page, num_bytes)

        for chunk, slot in enumerate(slots):
            _for_each_row(plan, chunk, host_slot(slot).ctypes.data, copy)

    def scatter(self, plan: CopyPlan, slots: Sequence[Slot]) -> None:
        """See `Copier.scatter`."""

        def copy(in_page: int, in_chunk: int, num_bytes: int) -> None:
            ctypes.memmove(in_page, in_chunk, num_bytes)

        for chunk, slot in enumerate(slots):
            _for_each_row(plan, chunk, host_slot(slot).ctypes.data, copy)


def row_at(
    plan: CopyPlan, chunk_number: int, plane: int, token: int, head: int
) -> tuple[int, int] | None:
    """Returns where one head of one token lies: its address, and its offset in the chunk.

    Args:
        plan: the copy.
        chunk_number: which chunk of the plan.
        plane: which plane.
        token: token of the chunk.
        head: head of the plan's range, counted from its first.

    Returns:
        None if the token's block is skipped.
    """
    page, chunk, heads = plan.shape.page, plan.shape.chunk, plan.shape.heads
    number, offset = divmod(token, plan.shape.group_tokens)
    block = int(plan.block_ids[chunk_number, number])
    if block == SKIP_BLOCK:
        return None
    in_page = page.planes[plane] + block * plan.shape.blocks.page_stride
    in_page += offset * page.stride_token + (heads.page_head + head) * page.stride_head
    in_chunk = plane * chunk.stride_plane + token * chunk.stride_token
    return in_page, in_chunk + (heads.chunk_head + head) * chunk.stride_head


def _for_each_row(
    plan: CopyPlan, chunk_number: int, slot: int, copy: Callable[[int, int, int], None]
) -> None:
    shape = plan.shape
    for plane in range(len(shape.page.planes)):
        for token in range(shape.chunk.chunk_tokens):
            for head in range(shape.heads.count):
                row = row_at(plan, chunk_number, plane, token, head)
                if row is not None:
                    copy(row[0], slot + row[1], shape.page.row_bytes)
