"""Engine caches of every layout, dtype, padding and library, and what a chunk of them must hold.

The expectation is worked out by logical indexing of the tensors, apart from all production code.

Shapes: T tensors, L layers, K planes of a layer, Q planes over all layers (T·L·K), B blocks,
P tokens per block, H heads, D bytes of a row, C chunks, N blocks of a chunk.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from hypothesis import strategies as st

from p2p.kernels import SKIP_BLOCK, ChunkSpec, HeadRange, PageAxes, PagedCache, PageMemory, Tensor

Uint8s = npt.NDArray[np.uint8]
ITEM_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "float8_e4m3fn": 1, "int8": 1}
ODD_AXES = ("PBHD", "HBPD", "BPKHD", "KLBPHD")


@dataclass(frozen=True)
class Case:
    axes: str
    dtype: str
    is_torch: bool
    size: dict[str, int]
    padding: dict[str, int]
    num_tensors: int
    blocks_per_chunk: int
    block_ids: tuple[tuple[int, ...], ...]
    heads: HeadRange | None
    chunk_heads: int
    seed: int


@dataclass(frozen=True)
class Engine:
    """Tensors of a case, with all the memory they are cut out of."""

    tensors: list[Tensor]
    bases: list[Uint8s]
    inside: list[npt.NDArray[np.bool_]]

    def pages(self, axes: str) -> Uint8s:
        """The content as (Q, B, P, H, D) bytes."""
        stacked = []
        for tensor in self.tensors:
            raw = _bytes_of(tensor, rest=tensor.ndim - axes.index("X") if "X" in axes else 1)
            letters = axes.replace("X", "D")
            order = [letters.index(letter) for letter in "LKBPHD" if letter in letters]
            shape = [
                raw.shape[letters.index(letter)] if letter in letters else 1 for letter in "LKBPHD"
            ]
            stacked.append(raw.transpose(order).reshape(shape))
        all_TLKBPHD = np.stack(stacked)
        return all_TLKBPHD.reshape(-1, *all_TLKBPHD.shape[3:])


def _bytes_of(tensor: Tensor, rest: int) -> Uint8s:
    if isinstance(tensor, torch.Tensor):
        raw = tensor.contiguous().view(torch.uint8).numpy()
    else:
        raw = np.ascontiguousarray(tensor).view(np.uint8)
    return raw.reshape(*raw.shape[: raw.ndim - rest], -1)


def build(case: Case) -> Engine:
    """The same case gives the same bytes in new memory, every time."""
    rng = np.random.default_rng(case.seed)
    letters = case.axes.replace("X", "PHD")
    item_bytes = ITEM_BYTES[case.dtype]
    padded = [case.size[letter] + case.padding.get(letter, 0) for letter in letters]
    cut = tuple(slice(0, case.size[letter]) for letter in letters)
    engine = Engine([], [], [])
    for _ in range(case.num_tensors):
        base = rng.integers(0, 256, (*padded[:-1], padded[-1] * item_bytes), dtype=np.uint8)
        inside = np.zeros(base.shape, bool)
        inside[(*cut[:-1], slice(0, case.size["D"] * item_bytes))] = True
        tensor: Tensor
        if case.is_torch:
            tensor = torch.from_numpy(base).view(getattr(torch, case.dtype))[cut]
        else:
            tensor = base.view(f"u{item_bytes}")[cut]
        engine.tensors.append(tensor)
        engine.bases.append(base)
        engine.inside.append(inside)
    return engine


def open_cache(case: Case, engine: Engine, implementation) -> PagedCache:
    memory = PageMemory.of_tensors(engine.tensors, case.axes)
    page = memory.spec
    if "X" in case.axes:
        chunk = ChunkSpec.opaque(len(page.planes), case.blocks_per_chunk, page.block_bytes)
    else:
        tokens = case.blocks_per_chunk * page.block_tokens
        chunk = ChunkSpec.canonical(
            len(page.planes), case.chunk_heads, tokens, page.head_dim, page.item_bytes
        )
    return PagedCache(memory, chunk, implementation)


def heads_of(case: Case, page_heads: int) -> HeadRange:
    return case.heads or HeadRange(0, 0, page_heads)


def expected_chunk(case: Case, pages: Uint8s, ids: tuple[int, ...], slot: Uint8s) -> Uint8s:
    """What a slot must hold after a gather."""
    heads = heads_of(case, pages.shape[3])
    picked_QNPHD = pages[:, list(ids)]
    picked_QNPHD = picked_QNPHD[:, :, :, heads.page_head : heads.page_head + heads.count]
    num_planes, num_blocks, tokens, num_heads, row = picked_QNPHD.shape
    rows = picked_QNPHD.transpose(0, 3, 1, 2, 4).reshape(num_planes, num_heads, -1)
    result = slot.reshape(num_planes, -1, num_blocks * tokens * row).copy()
    result[:, heads.chunk_head : heads.chunk_head + heads.count] = rows
    return result.reshape(-1)


def expected_pages(case: Case, pages: Uint8s, slots: list[Uint8s]) -> Uint8s:
    """What the pages must hold after a scatter."""
    result = pages.copy()
    heads = heads_of(case, pages.shape[3])
    num_planes, _, tokens, _, row = pages.shape
    for ids, slot in zip(case.block_ids, slots, strict=True):
        chunk = slot.reshape(num_planes, -1, case.blocks_per_chunk, tokens, row)
        for number, block in enumerate(ids):
            if block != SKIP_BLOCK:
                part = chunk[:, heads.chunk_head : heads.chunk_head + heads.count, number]
                where = slice(heads.page_head, heads.page_head + heads.count)
                result[:, block, :, where] = part.transpose(0, 2, 1, 3)
    return result


@st.composite
def _head_ranges(draw, num_heads: int):
    """A part of the page's heads, somewhere in a chunk that may have more or fewer."""
    if draw(st.booleans()):
        return None, num_heads
    count = draw(st.integers(1, num_heads))
    page_head = draw(st.integers(0, num_heads - count))
    chunk_head, above = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    return HeadRange(page_head, chunk_head, count), chunk_head + count + above


@st.composite
def cases(draw, *, for_scatter: bool) -> Case:
    axes = draw(st.sampled_from([*(str(axes) for axes in PageAxes), *ODD_AXES]))
    is_opaque = "X" in axes
    size = {
        "L": draw(st.integers(1, 3)),
        "K": 2,
        "B": draw(st.integers(1, 9)),
        "P": draw(st.integers(1, 5)),
        "H": draw(st.integers(1, 4)) if "H" in axes else 1,
        "D": draw(st.sampled_from([1, 3, 8, 16, 20])),
    }
    paddable = "B" if is_opaque else "BPHD"
    padding = draw(st.dictionaries(st.sampled_from(paddable), st.integers(1, 3), max_size=2))
    per_chunk = draw(st.integers(1, min(3, size["B"])))
    num_chunks = draw(st.integers(0, 3))
    if for_scatter:
        blocks = draw(st.permutations(range(size["B"])))
        count = num_chunks * per_chunk
        flat = [*blocks, *[SKIP_BLOCK] * count][:count]
        holes = draw(st.sets(st.integers(0, 8), max_size=3))
        flat = [SKIP_BLOCK if at in holes else block for at, block in enumerate(flat)]
    else:
        ids = st.integers(0, size["B"] - 1)
        count = num_chunks * per_chunk
        flat = draw(st.lists(ids, min_size=count, max_size=count))
    heads, chunk_heads = (None, 1) if is_opaque else draw(_head_ranges(size["H"]))
    return Case(
        axes=axes,
        dtype=draw(st.sampled_from(sorted(ITEM_BYTES))),
        is_torch=draw(st.booleans()),
        size=size,
        padding=padding,
        num_tensors=1 if "L" in axes else draw(st.integers(1, 4)),
        blocks_per_chunk=per_chunk,
        block_ids=tuple(tuple(flat[at : at + per_chunk]) for at in range(0, len(flat), per_chunk)),
        heads=heads,
        chunk_heads=chunk_heads,
        seed=draw(st.integers(0, 1000)),
    )
