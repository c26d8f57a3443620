"""Plans: ranges cover a chunk exactly, are merged as far as they go, and are as aligned as said."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings

from p2p.errors import ArgumentError
from p2p.kernels import SKIP_BLOCK, ChunkSpec, HeadRange, Implementation, PageSpec, copy_plan
from tests.unit.kernels.caches import build, cases, expected_chunk, heads_of, open_cache


def _page(axes="NHD", num_planes=2, num_blocks=8, plane_gap=0):
    """Blocks of 4 tokens, 2 heads, 8 elements of 2 bytes, in planes one behind the other."""
    row, tokens, heads = 16, 4, 2
    block = row * tokens * heads
    token, head = (heads * row, row) if axes == "NHD" else (row, tokens * row)
    planes = tuple(4096 + plane * (num_blocks * block + plane_gap) for plane in range(num_planes))
    return PageSpec(planes, num_blocks, tokens, heads, 8, 2, block, token, head)


def _ranges(page, ids, tokens=8, heads=None, chunk_heads=2):
    chunk = ChunkSpec.canonical(len(page.planes), chunk_heads, tokens, 8, 2)
    pages, offsets, lengths = copy_plan(page, chunk, ids, heads).ranges(0)
    return list(zip(pages.tolist(), offsets.tolist(), lengths.tolist(), strict=True))


def test_tokens_of_head_major_pages_are_one_run():
    page = _page("HND", num_planes=1)
    assert _ranges(page, [5, 2]) == [
        (4096 + 5 * 128, 0, 64),
        (4096 + 2 * 128, 64, 64),
        (4096 + 5 * 128 + 64, 128, 64),
        (4096 + 2 * 128 + 64, 192, 64),
    ]


def test_a_block_that_is_the_whole_chunk_is_one_run():
    assert _ranges(_page("HND", num_planes=1), [3], tokens=4) == [(4096 + 3 * 128, 0, 128)]


def test_planes_that_follow_each_other_are_one_run():
    page = _page("HND", num_planes=3, num_blocks=1)
    assert _ranges(page, [0], tokens=4) == [(4096, 0, 3 * 128)]


def test_blocks_that_follow_each_other_are_one_run():
    page = PageSpec((0, 4096), 8, 4, 1, 8, 2, 64, 16, 16)
    assert _ranges(page, [2, 3, 6], tokens=12, chunk_heads=1) == [
        (128, 0, 128),
        (384, 128, 64),
        (4096 + 128, 192, 128),
        (4096 + 384, 320, 64),
    ]


def test_token_major_pages_are_rows_of_a_head():
    ranges = _ranges(_page("NHD", num_planes=1), [1, 0])
    assert {length for _, _, length in ranges} == {16}
    assert ranges[1] == (4096 + 128 + 32, 16, 16)


def test_a_skipped_block_has_no_ranges():
    page = _page("HND", num_planes=1)
    assert _ranges(page, [SKIP_BLOCK, 2]) == [
        (4096 + 256, 64, 64),
        (4096 + 256 + 64, 192, 64),
    ]
    assert _ranges(page, [SKIP_BLOCK, SKIP_BLOCK]) == []


@given(case=cases(for_scatter=False))
@settings(max_examples=150, deadline=None)
def test_ranges_are_the_copy(case):
    engine = build(case)
    cache = open_cache(case, engine, Implementation.REFERENCE)
    made = cache.plan(case.block_ids, case.heads)
    shape = made.shape
    pages = engine.pages(case.axes)
    by_address = _byte_by_address(engine)
    for number, ids in enumerate(case.block_ids):
        addresses, offsets, lengths = made.ranges(number)
        slot = np.zeros(cache.chunk.chunk_bytes, np.uint8)
        for address, offset, length in zip(addresses, offsets, lengths, strict=True):
            slot[offset : offset + length] = by_address(int(address), int(length))
        np.testing.assert_array_equal(slot, expected_chunk(case, pages, ids, 0 * slot))
        heads = heads_of(case, pages.shape[3]).count
        assert lengths.sum() == heads * cache.chunk.stride_head * cache.chunk.num_planes
        touch = (addresses[:-1] + lengths[:-1] == addresses[1:]) & (
            offsets[:-1] + lengths[:-1] == offsets[1:]
        )
        assert not touch.any()
        for steps in (addresses, offsets, lengths):
            assert not (steps % shape.access_bytes).any()


def _byte_by_address(engine):
    starts = [(base.ctypes.data, base.reshape(-1)) for base in engine.bases]

    def read(address, length):
        for start, content in starts:
            if start <= address < start + content.size:
                assert address + length <= start + content.size
                return content[address - start : address - start + length]
        raise AssertionError(address)

    return read


@pytest.mark.parametrize(
    ("ids", "name", "value"),
    [
        ([0, 8], "block_ids", 8),
        ([-2, 1], "block_ids", -2),
        ([0, 1, 2], "block_ids", "ids of shape (3,)"),
        ([[0, 1, 2, 3]], "block_ids", "ids of shape (1, 4)"),
        ([[0, 1], [2]], "block_ids", [[0, 1], [2]]),
        ([0, 1 << 70], "block_ids", "object"),
        ([0.0, 1.0], "block_ids", "float64"),
    ],
)
def test_block_ids_that_cannot_be(ids, name, value):
    with pytest.raises(ArgumentError) as caught:
        _ranges(_page(), ids)
    assert (caught.value.name, caught.value.value) == (name, value)


@pytest.mark.parametrize(
    "heads", [HeadRange(1, 0, 2), HeadRange(0, 1, 2), HeadRange(0, 0, 0), HeadRange(-1, 0, 1)]
)
def test_heads_outside(heads):
    with pytest.raises(ArgumentError, match=r"^heads = HeadRange\(.*has 2 heads and the chunk 2"):
        _ranges(_page(), [0, 1], heads=heads)


@pytest.mark.parametrize(
    ("chunk", "name"),
    [
        (ChunkSpec.canonical(3, 2, 8, 8, 2), "planes"),
        (ChunkSpec.canonical(2, 4, 8, 8, 2), "num_heads"),
        (ChunkSpec.canonical(2, 2, 8, 9, 2), "head_dim"),
        (ChunkSpec.canonical(2, 2, 6, 8, 2), "chunk_tokens"),
    ],
)
def test_chunks_that_do_not_fit(chunk, name):
    with pytest.raises(ArgumentError) as caught:
        copy_plan(_page(), chunk, [0, 1])
    assert caught.value.name == name


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"planes": ()}, "planes"),
        ({"num_blocks": 0}, "num_blocks"),
        ({"stride_block": 127}, "stride_block"),
        ({"stride_token": 31}, "stride_token"),
        ({"stride_head": 15}, "stride_head"),
    ],
)
def test_pages_that_cannot_be(change, name):
    page = _page()
    fields = {field.name: getattr(page, field.name) for field in dataclasses.fields(page)}
    with pytest.raises(ArgumentError) as caught:
        PageSpec(**(fields | change))
    assert caught.value.name == name


def test_no_chunks_is_no_work():
    made = copy_plan(_page(), ChunkSpec.canonical(2, 2, 8, 8, 2), [])
    assert made.num_chunks == 0
