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


def _for_each_row(
    plan: CopyPlan, chunk_number: int, slot: int, copy: Callable[[int, int, int], None]
) -> None:
    page, chunk, heads = plan.shape.page, plan.shape.chunk, plan.shape.heads
    group, stride_group = plan.shape.group_tokens, plan.shape.blocks.page_stride
    blocks = plan.block_ids[chunk_number].tolist()
    for plane, address in enumerate(page.planes):
        for token in range(chunk.chunk_tokens):
            block = blocks[token // group]
            if block == SKIP_BLOCK:
                continue
            in_page = address + block * stride_group + token % group * page.stride_token
            in_chunk = slot + plane * chunk.stride_plane + token * chunk.stride_token
            for head in range(heads.count):
                copy(
                    in_page + (heads.page_head + head) * page.stride_head,
                    in_chunk + (heads.chunk_head + head) * chunk.stride_head,
                    page.row_bytes,
                )
