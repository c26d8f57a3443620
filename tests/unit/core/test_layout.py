"""Layouts: what cannot be, how large a chunk is, and who may read whom."""

import msgspec
import pytest

from p2p.errors import ArgumentError
from p2p.layout import ByteOrder, Equal, Layout, Refused, Sliceable, compare, counterparts

BASE = Layout(
    num_layers=4,
    num_kv_heads=8,
    head_dim=64,
    kv_dtype="bfloat16",
    block_tokens=16,
    chunk_tokens=64,
)
OPAQUE = msgspec.structs.replace(
    BASE, byte_order=ByteOrder.OPAQUE, isa="avx512", engine_kv_version="1"
)
MLA = msgspec.structs.replace(BASE, num_planes=1, num_kv_heads=1)


def _but(layout, **changes):
    return msgspec.structs.replace(layout, **changes)


@pytest.mark.parametrize("layout", [BASE, OPAQUE, MLA, _but(BASE, tensor_parallel=8)])
def test_possible_layouts_pass_the_check(layout):
    layout.check()


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("kv_dtype", {"kv_dtype": "float12"}),
        ("chunk_tokens", {"chunk_tokens": 40}),
        ("chunk_tokens", {"chunk_tokens": 8}),
        ("tensor_parallel", {"tensor_parallel": 3}),
        ("tensor_parallel", {"tensor_parallel": 12}),
        ("tensor_parallel", {"tensor_parallel": 0}),
        ("num_layers", {"num_layers": 0}),
        ("num_layers", {"num_layers": 2.0}),
        ("num_layers", {"num_layers": "2"}),
        ("num_kv_heads", {"num_kv_heads": -8}),
        ("head_dim", {"head_dim": True}),
        ("head_dim", {"head_dim": (1 << 24) + 1}),
        ("block_tokens", {"block_tokens": 0}),
        ("chunk_tokens", {"chunk_tokens": 0}),
        ("num_planes", {"num_planes": 3}),
        ("pipeline_parallel", {"pipeline_parallel": 0}),
    ],
)
def test_an_impossible_layout_is_refused_with_field_and_value(field, changes):
    with pytest.raises(ArgumentError) as caught:
        _but(BASE, **changes).check()
    assert (caught.value.name, caught.value.value) == (field, changes[field])


def test_mla_may_have_any_number_of_ranks():
    _but(MLA, num_kv_heads=3, tensor_parallel=2).check()


@pytest.mark.parametrize(("ranks", "heads"), [(1, 8), (2, 4), (8, 1), (16, 1)])
def test_ranks_share_the_heads_and_beyond_that_keep_copies(ranks, heads):
    assert _but(BASE, tensor_parallel=ranks).heads_per_rank == heads


def test_a_canonical_chunk_is_leaves_of_one_head_layer_and_plane():
    layout = _but(BASE, tensor_parallel=2)
    assert layout.leaf_bytes == 64 * 64 * 2
    assert layout.num_leaves == 4 * 2 * 4
    assert layout.chunk_bytes == layout.leaf_bytes * layout.num_leaves


def test_an_opaque_chunk_is_as_large_and_has_a_leaf_per_layer():
    assert OPAQUE.num_leaves == 4
    assert OPAQUE.chunk_bytes == BASE.chunk_bytes


def test_every_rank_of_mla_keeps_the_whole_chunk():
    assert _but(MLA, tensor_parallel=4).chunk_bytes == MLA.chunk_bytes == 4 * 64 * 64 * 2


@pytest.mark.parametrize("layout", [BASE, OPAQUE, MLA])
def test_a_layout_equals_itself(layout):
    assert compare(layout, layout) == Equal()


@pytest.mark.parametrize(
    "changes", [{"block_tokens": 32}, {"isa": "amx"}, {"engine_kv_version": "2"}]
)
def test_what_only_opaque_chunks_depend_on_does_not_matter_between_canonical_ones(changes):
    assert compare(BASE, _but(BASE, **changes)) == Equal()


@pytest.mark.parametrize(("ours", "theirs"), [(1, 2), (4, 2), (16, 8)])
def test_tensor_parallel_sizes_that_differ_are_sliceable(ours, theirs):
    pair = _but(BASE, tensor_parallel=ours), _but(BASE, tensor_parallel=theirs)
    assert compare(*pair) == Sliceable()


def test_mla_of_other_tensor_parallel_size_is_equal_since_ranks_keep_copies():
    assert compare(MLA, _but(MLA, tensor_parallel=4)) == Equal()


ALWAYS = {
    "byte_order": ByteOrder.OPAQUE,
    "kv_dtype": "float16",
    "num_layers": 5,
    "num_planes": 1,
    "num_kv_heads": 4,
    "head_dim": 128,
    "chunk_tokens": 128,
    "pipeline_parallel": 2,
}
IF_OPAQUE = {"block_tokens": 32, "tensor_parallel": 2, "isa": "amx", "engine_kv_version": "2"}


@pytest.mark.parametrize(("field", "value"), ALWAYS.items())
def test_a_field_that_differs_is_refused_by_name_with_both_values(field, value):
    verdict = compare(BASE, _but(BASE, **{field: value}))
    assert isinstance(verdict, Refused)
    assert verdict.field == field
    assert "Byte" not in verdict.ours + verdict.theirs
    assert verdict.ours != verdict.theirs


@pytest.mark.parametrize(("field", "value"), [*ALWAYS.items(), *IF_OPAQUE.items()])
def test_opaque_chunks_move_between_equal_layouts_only(field, value):
    other = ByteOrder.CANONICAL if field == "byte_order" else value
    verdict = compare(OPAQUE, _but(OPAQUE, **{field: other}))
    assert isinstance(verdict, Refused)
    assert verdict.field == field


def test_every_field_of_a_layout_is_compared():
    assert set(ALWAYS) | set(IF_OPAQUE) == set(Layout.__struct_fields__)


@pytest.mark.parametrize("heads", [1, 2, 4, 8])
@pytest.mark.parametrize("ours", [1, 2, 4, 8])
@pytest.mark.parametrize("theirs", [1, 2, 4, 8])
def test_counterparts_keep_exactly_the_heads_that_a_rank_reads(heads, ours, theirs):
    reader = _but(BASE, num_kv_heads=heads, tensor_parallel=ours)
    holder = _but(BASE, num_kv_heads=heads, tensor_parallel=theirs)
    for rank in range(ours):
        wanted = _heads_of(reader, rank)
        found = [_heads_of(holder, other) for other in counterparts(reader, holder, rank)]
        assert set(wanted) <= {head for kept in found for head in kept}
        assert all(set(kept) & set(wanted) for kept in found)
        assert found == sorted(found)
        assert len(set(map(tuple, found))) == len(found)


def _heads_of(layout, rank):
    first = rank * layout.num_kv_heads // layout.tensor_parallel
    return list(range(first, first + layout.heads_per_rank))


def test_readers_spread_over_ranks_that_keep_copies():
    wide = _but(BASE, num_kv_heads=2, tensor_parallel=8)
    narrow = _but(BASE, num_kv_heads=2, tensor_parallel=4)
    assert {counterparts(narrow, wide, rank) for rank in range(4)} == {(0,), (1,), (6,), (7,)}
    latent = _but(MLA, tensor_parallel=4), _but(MLA, tensor_parallel=2)
    assert [counterparts(*latent, rank) for rank in range(4)] == [(0,), (1,), (0,), (1,)]


@pytest.mark.parametrize("rank", [-1, 2])
def test_a_rank_that_is_not_there_is_named(rank):
    two = _but(BASE, tensor_parallel=2)
    with pytest.raises(ArgumentError, match="rank"):
        counterparts(two, two, rank)


def test_layouts_that_refuse_each_other_have_no_counterparts():
    with pytest.raises(ArgumentError, match="head_dim"):
        counterparts(BASE, _but(BASE, head_dim=999), 0)
