"""Plans for single tokens: any tokens of any layout, merged as far as they lie together."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.errors import ArgumentError
from p2p.kernels import (
    SKIP_BLOCK,
    ChunkSpec,
    HeadRange,
    Implementation,
    PageAxes,
    PageMemory,
    copy_plan,
    copy_shape,
    gather,
    open_copier,
    scatter,
    token_plan,
    token_slots,
)
from p2p_kernels.registry import ENTRIES

AXES = [str(axes) for axes in PageAxes if "X" not in axes]
ON_HOST = [
    name
    for name, entry in ENTRIES.items()
    if (not entry.devices or "cpu" in entry.devices) and not entry.starts_slowly
]
CASE = {
    "axes": st.sampled_from(AXES),
    "block_tokens": st.sampled_from([1, 2, 3, 4, 6, 8]),
    "chunk_tokens": st.sampled_from([1, 2, 3, 4, 6, 12]),
    "seed": st.integers(0, 1000),
    "start": st.integers(0, 5),
    "holes": st.sets(st.integers(0, 11), max_size=2),
}


@pytest.fixture(autouse=True, scope="module")
def _one_torch_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclasses.dataclass
class Cache:
    """Six blocks of two layers, with three heads of five 2-byte elements."""

    axes: str
    tensors: list[torch.Tensor]

    @classmethod
    def filled(cls, axes: str, block_tokens: int, seed: int) -> "Cache":
        size = {"L": 2, "K": 2, "B": 6, "P": block_tokens, "H": 3, "D": 5}
        shape = [size[letter] for letter in axes]
        count = (1 if "L" in axes else 2) * (2 if axes in {"BPHD", "BHPD"} else 1)
        torch.manual_seed(seed)
        whole = torch.randint(0, 1 << 15, (count, *shape), dtype=torch.int16)
        return cls(axes, list(whole.unbind()))

    def tokens(self):
        """(Q, B·P, H, D), the content by token slot."""
        letters = [letter for letter in "LKBPHD" if letter in self.axes]
        planes = []
        for tensor in self.tensors:
            ordered = tensor.permute([self.axes.index(letter) for letter in letters])
            heads = ordered.shape[-2] if "H" in letters else 1
            tokens = ordered.shape[letters.index("B")] * ordered.shape[letters.index("P")]
            planes.append(ordered.reshape(-1, tokens, heads, ordered.shape[-1]))
        return torch.cat(planes).numpy()


def _slots(case):
    """Token slots of a request whose first chunk starts inside a block, with holes."""
    blocks = np.random.default_rng(case["seed"]).permutation(6)
    total = 6 * case["block_tokens"]
    tokens = range(min(case["start"], total - 1), total)
    slots = token_slots(blocks, case["block_tokens"], tokens)
    whole = slots.size // case["chunk_tokens"] * case["chunk_tokens"]
    return slots[:whole].reshape(-1, case["chunk_tokens"])


def _plan(memory, slots, heads=None):
    page = memory.spec
    chunk = ChunkSpec.canonical(
        len(page.planes), page.num_heads, slots.shape[1], page.head_dim, page.item_bytes
    )
    return token_plan(page, chunk, slots, heads)


@pytest.mark.parametrize("implementation", ON_HOST)
@given(case=st.fixed_dictionaries(CASE))
@settings(max_examples=60, deadline=None)
def test_gather(implementation, case):
    cache = Cache.filled(case["axes"], case["block_tokens"], case["seed"])
    memory = PageMemory.of_tensors(cache.tensors, case["axes"])
    slots = _slots(case)
    made = _plan(memory, slots)
    found = [np.zeros(made.shape.chunk.chunk_bytes, np.uint8) for _ in slots]
    gather(made, found, open_copier(memory, implementation))
    tokens_QTHD = cache.tokens()
    for chunk, ids in zip(found, slots, strict=True):
        wanted = np.ascontiguousarray(tokens_QTHD[:, ids].transpose(0, 2, 1, 3))
        np.testing.assert_array_equal(chunk, wanted.reshape(-1).view(np.uint8))


@pytest.mark.parametrize("implementation", ON_HOST)
@given(case=st.fixed_dictionaries(CASE))
@settings(max_examples=60, deadline=None)
def test_scatter(implementation, case):
    cache = Cache.filled(case["axes"], case["block_tokens"], case["seed"])
    memory = PageMemory.of_tensors(cache.tensors, case["axes"])
    slots = _slots(case)
    slots[:, [hole for hole in case["holes"] if hole < slots.shape[1]]] = SKIP_BLOCK
    last = memory.spec.num_heads - 1
    heads = HeadRange(last, 0, 1)
    made = _plan(memory, slots, heads)
    rng = np.random.default_rng(case["seed"])
    given = [rng.integers(0, 256, made.shape.chunk.chunk_bytes, dtype=np.uint8) for _ in slots]
    wanted_QTHD = cache.tokens().copy()
    for chunk, ids in zip(given, slots, strict=True):
        rows_QHTD = chunk.view(np.int16).reshape(
            len(wanted_QTHD), last + 1, slots.shape[1], memory.spec.head_dim
        )
        kept = ids != SKIP_BLOCK
        wanted_QTHD[:, ids[kept], last] = rows_QHTD[:, 0, kept]
    scatter(made, given, open_copier(memory, implementation))
    np.testing.assert_array_equal(cache.tokens(), wanted_QTHD)


@given(case=st.fixed_dictionaries(CASE))
@settings(max_examples=100, deadline=None)
def test_whole_blocks_are_copied_as_blocks(case):
    bs, per_chunk = case["block_tokens"], case["chunk_tokens"]
    cache = Cache.filled(case["axes"], bs, case["seed"])
    page = PageMemory.of_tensors(cache.tensors, case["axes"]).spec
    chunk = ChunkSpec.canonical(len(page.planes), page.num_heads, per_chunk * bs, 5, 2)
    blocks = np.random.default_rng(case["seed"]).integers(-1, 6, per_chunk)
    slots = token_slots(blocks, bs, range(per_chunk * bs))
    by_tokens, by_blocks = token_plan(page, chunk, slots), copy_plan(page, chunk, blocks)
    assert by_tokens.shape.group_tokens == bs
    for ours, theirs in zip(by_tokens.ranges(0), by_blocks.ranges(0), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_groups_are_as_long_as_all_chunks_allow():
    page = PageMemory.of_tensors(np.zeros((6, 8, 3, 5), "i2"), PageAxes.SEPARATE_NHD).spec
    chunk = ChunkSpec.canonical(1, 3, 12, 5, 2)
    inside = token_slots([5, 0, 2, 1], 8, range(4, 28))
    made = token_plan(page, chunk, inside)
    assert made.shape.group_tokens == 4
    assert made.block_ids.tolist() == [[11, 0, 1], [4, 5, 2]]
    assert token_plan(page, chunk, [*inside[:11], 47]).shape.group_tokens == 1
    assert token_plan(page, chunk, inside[1:13]).shape.group_tokens == 1


@given(case=st.fixed_dictionaries(CASE), moved=st.integers(0, 64))
@settings(max_examples=100, deadline=None)
def test_accesses_are_aligned(case, moved):
    cache = Cache.filled(case["axes"], case["block_tokens"], case["seed"])
    memory = PageMemory.of_tensors(cache.tensors, case["axes"])
    made = _plan(memory, _slots(case))
    width = made.access_bytes([moved])
    assert width in {1, 2, 4, 8, 16}
    addresses, offsets, lengths = (np.concatenate(parts) for parts in zip(
        *(made.ranges(chunk) for chunk in range(made.num_chunks)), strict=True
    )) if made.num_chunks else (np.zeros(1, int),) * 3  # fmt: skip
    for steps in (addresses, offsets + moved, lengths):
        assert not (steps % width).any()
    strides = [made.shape.run_bytes, *made.shape.blocks[1:], *memory.spec.planes, moved]
    inner = [stride for dim in made.shape.dims for stride in dim[1:]]
    assert width == math.gcd(16, *strides, *inner, made.shape.chunk.stride_plane)


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ([0, 1, 2], r"^token_slots = 'slots of shape \(3,\)': a chunk has 4 tokens"),
        ([[0, 1], [2, 3]], r"^token_slots = 'slots of shape \(2, 2\)'"),
        ([0, 1, 2, 48], r"^token_slots = 48: the cache has tokens 0 to 47"),
        ([0, 1, 2, -2], r"^token_slots = -2"),
    ],
)
def test_token_slots_that_cannot_be(slots, message):
    page = PageMemory.of_tensors(np.zeros((6, 8, 3, 5), "i2"), PageAxes.SEPARATE_NHD).spec
    with pytest.raises(ArgumentError, match=message):
        token_plan(page, ChunkSpec.canonical(1, 3, 4, 5, 2), slots)


def test_what_cannot_be_asked():
    with pytest.raises(ArgumentError, match=r"^tokens = range\(0, 9\): 2 blocks have 8 tokens"):
        token_slots([1, 2], 4, range(9))
    page = PageMemory.of_tensors(np.zeros((6, 8, 3, 5), "i2"), PageAxes.SEPARATE_NHD).spec
    chunk = ChunkSpec.canonical(1, 3, 6, 5, 2)
    with pytest.raises(ArgumentError, match=r"^group_tokens = 3: no divisor of block_tokens = 8"):
        copy_shape(page, chunk, group_tokens=3)
    with pytest.raises(ArgumentError, match=r"^chunk_tokens = 6: no multiple of group_tokens = 4"):
        copy_shape(page, chunk, group_tokens=4)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint64])
def test_token_slots_of_narrow_ids(dtype):
    """They are as large as they have to be, whatever the ids came in."""
    found = token_slots(np.array([100, 2], dtype), 16, range(15, 17))
    assert found.dtype == np.int64
    assert found.tolist() == [1615, 32]


@pytest.mark.parametrize("block", [-2, 1 << 60, np.uint64((1 << 64) - 1)])
def test_what_is_no_block_has_no_token_slots(block):
    with pytest.raises(ArgumentError, match=rf"^block_ids = {block}: "):
        token_slots(np.array([block]), 16, range(4))


def test_no_tokens_is_no_work():
    memory = PageMemory.of_tensors(np.zeros((6, 8, 3, 5), "i2"), PageAxes.SEPARATE_NHD)
    chunk = ChunkSpec.canonical(1, 3, 4, 5, 2)
    made = token_plan(memory.spec, chunk, [])
    assert made.num_chunks == 0
    gather(made, [], open_copier(memory, Implementation.NUMPY))
