"""What the kernels' benchmark copies: one chunk of 256 tokens in every usual layout, and baselines.

All layouts are views of the same gigabyte. A baseline does what people write first.
Shapes: L layers, K planes of a layer, B blocks, N blocks of a chunk, P tokens per block, H heads,
D bytes of a row.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from p2p.kernels import ChunkSpec, CopyPlan, PageAxes, PageMemory, Slot
from p2p_kernels.memory import host_bytes

LAYERS, HEADS, ROW_BYTES, BLOCK_TOKENS, CHUNK_TOKENS = 32, 8, 256, 16, 256
BLOCKS_PER_CHUNK = CHUNK_TOKENS // BLOCK_TOKENS
NUM_CHUNKS = 32
NUM_BLOCKS = NUM_CHUNKS * BLOCKS_PER_CHUNK
PLANE_BLOCK_BYTES = BLOCK_TOKENS * HEADS * ROW_BYTES
CHUNK_BYTES = LAYERS * 2 * BLOCKS_PER_CHUNK * PLANE_BLOCK_BYTES
CACHE_BYTES = NUM_CHUNKS * CHUNK_BYTES
_LATENT_BYTES = 1152

Copy = Callable[[CopyPlan, list[Slot]], None]


@dataclass(frozen=True)
class Bench:
    """A layout of the cache.

    Attributes:
        name: for people.
        axes: of each tensor.
        shape: of each tensor, in bytes; without the layers where tensors are one per layer.
        is_block_contiguous: a block of a plane is one run on both sides.
    """

    name: str
    axes: str
    shape: tuple[int, ...]
    is_block_contiguous: bool

    def memory(self, pages: np.ndarray) -> PageMemory:
        """Returns the pages as an engine has them: torch tensors, one per layer or one for all."""
        count = 1 if "L" in self.axes or self.name == "cross-layer" else LAYERS
        per_tensor = int(np.prod(self.shape))
        tensors = [
            torch.from_numpy(pages[number * per_tensor :][:per_tensor]).view(self.shape)
            for number in range(count)
        ]
        return PageMemory.of_tensors(tensors, self.axes)

    def chunk(self, memory: PageMemory) -> ChunkSpec:
        """Returns how a chunk lies in its slot."""
        page = memory.spec
        tokens = BLOCKS_PER_CHUNK * page.block_tokens
        return ChunkSpec.canonical(len(page.planes), page.num_heads, tokens, page.head_dim, 1)


BENCHES = (
    Bench("cross-layer", PageAxes.OPAQUE, (NUM_BLOCKS, LAYERS * 2 * PLANE_BLOCK_BYTES), True),
    Bench("opaque", PageAxes.OPAQUE_KV_FIRST, (2, NUM_BLOCKS, PLANE_BLOCK_BYTES), True),
    Bench("latent", PageAxes.MLA, (NUM_BLOCKS, BLOCK_TOKENS, _LATENT_BYTES), True),
    Bench(
        "heads first",
        PageAxes.KV_FIRST_HND,
        (2, NUM_BLOCKS, HEADS, BLOCK_TOKENS, ROW_BYTES),
        False,
    ),
    Bench(
        "tokens first",
        PageAxes.KV_FIRST_NHD,
        (2, NUM_BLOCKS, BLOCK_TOKENS, HEADS, ROW_BYTES),
        False,
    ),
)


def python_loops(memory: PageMemory, is_gather: bool) -> Copy:
    """Returns a copy by a Python loop over contiguous spans, slice by slice."""
    base = min(memory.spec.planes)
    end = max(memory.spec.planes) + memory.spec.plane_span_bytes
    whole = memoryview(host_bytes(base, end - base, is_writable=True))

    def copy(plan: CopyPlan, slots: list[Slot]) -> None:
        run = plan.shape.run_bytes
        target = memoryview(slots[0])
        inner = [(0, 0)]
        for dim in plan.shape.dims:
            inner = [
                (page + step * dim.page_stride, chunk + step * dim.chunk_stride)
                for page, chunk in inner
                for step in range(dim.size)
            ]
        for plane, in_page, in_chunk in plan.pieces(0):
            start = plan.shape.page.planes[plane] - base + in_page
            for page, chunk in inner:
                here = slice(start + page, start + page + run)
                there = slice(in_chunk + chunk, in_chunk + chunk + run)
                if is_gather:
                    target[there] = whole[here]
                else:
                    whole[here] = target[there]

    return copy


def fancy_indexing(memory: PageMemory, is_gather: bool) -> Copy:
    """Returns a copy by advanced indexing of each tensor and a transpose, in torch, as bf16."""
    count = len(memory.spec.planes) // len(memory.tensors)
    pages = [
        _blocks_first(tensor.view(torch.bfloat16), memory.spec.num_heads)
        for tensor in memory.tensors
    ]

    def copy(plan: CopyPlan, slots: list[Slot]) -> None:
        ids = torch.from_numpy(plan.block_ids[0])
        page = plan.shape.page
        size = (len(memory.tensors), count, page.num_heads, len(ids), page.block_tokens, -1)
        chunk = torch.from_numpy(slots[0]).view(torch.bfloat16).view(size)
        for number, pages_KBPHD in enumerate(pages):
            wanted_KNPHD = chunk[number].permute(0, 2, 3, 1, 4)
            if is_gather:
                wanted_KNPHD.copy_(pages_KBPHD[:, ids])
            else:
                pages_KBPHD[:, ids] = wanted_KNPHD

    return copy


def _blocks_first(tensor, num_heads: int):
    """(K, B, P, H, D) of a tensor of any of the layouts."""
    match tensor.ndim:
        case 2:
            return tensor[None, :, None, None]
        case 3 if num_heads == 1 and tensor.shape[0] == 2:
            return tensor[:, :, None, None]
        case 3:
            return tensor[None, :, :, None]
        case _:
            return tensor if tensor.shape[3] == num_heads else tensor.transpose(2, 3)
