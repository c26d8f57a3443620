"""Head slices: every head of a rank comes from a rank that keeps it, exactly once."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from p2p.errors import ArgumentError
from p2p.kernels import HeadRange, PageAxes, PagedCache, PageMemory, head_slices
from p2p.layout import Layout, counterparts

HEADS = 8
SIZES = st.sampled_from([1, 2, 4, 8, 16, 32])


def _layout(tensor_parallel, num_planes=2, stages=1):
    return Layout(
        num_layers=2, num_kv_heads=HEADS, head_dim=4, kv_dtype="int8", block_tokens=2,
        chunk_tokens=4, num_planes=num_planes, tensor_parallel=tensor_parallel,
        pipeline_parallel=stages,
    )  # fmt: skip


def _heads_of_model(layout, rank):
    start = rank % layout.tensor_parallel * HEADS // layout.tensor_parallel
    return list(range(start, start + layout.heads_per_rank))


@given(ours=SIZES, theirs=SIZES, stages=st.integers(1, 2), data=st.data())
def test_each_head_once_from_where_it_is(ours, theirs, stages, data):
    reader, holder = _layout(ours, stages=stages), _layout(theirs, stages=stages)
    rank = data.draw(st.integers(0, ours * stages - 1))
    wanted = _heads_of_model(reader, rank)
    found = {}
    slices = head_slices(reader, holder, rank)
    assert tuple(part.rank for part in slices) == counterparts(reader, holder, rank)
    for part in slices:
        kept = _heads_of_model(holder, part.rank)
        for step in range(part.heads.count):
            place = part.heads.page_head + step
            assert place not in found
            found[place] = kept[part.heads.chunk_head + step]
    assert [found[place] for place in range(len(wanted))] == wanted


def test_latent_caches_are_whole():
    ours, theirs = _layout(4, num_planes=1), _layout(2, num_planes=1)
    assert head_slices(ours, theirs, 3) == ((1, HeadRange(0, 0, HEADS)),)


def test_layouts_that_refuse_each_other():
    other = Layout(2, 4, 4, "int8", 2, 4)
    with pytest.raises(ArgumentError, match=r"^num_kv_heads = '4': ours is 8"):
        head_slices(_layout(2), other, 0)


NOT_DIVIDING = [(3, 2, 3), (2, 3, 3), (12, 4, 12), (4, 0, 0)]


@pytest.mark.parametrize(("ours", "theirs", "wrong"), NOT_DIVIDING)
def test_heads_that_cannot_be_divided_are_refused(ours, theirs, wrong):
    """Three ranks would leave out two of eight heads."""
    with pytest.raises(ArgumentError, match=rf"^tensor_parallel = {wrong}: "):
        head_slices(_layout(ours), _layout(theirs), 0)


@pytest.mark.parametrize(("ours", "theirs"), [(2, 4), (4, 2), (1, 8), (8, 1), (16, 4), (4, 16)])
def test_a_cache_goes_over_to_another_size(ours, theirs):
    """Gather on every rank of one instance, scatter by slices on every rank of another."""
    reader, holder = _layout(ours), _layout(theirs)
    whole = torch.randint(0, 100, (2, 2, 5, 2, HEADS, 4), dtype=torch.int8)  # L K B P H D

    def cache(layout, rank, source):
        part = source[:, :, :, :, _heads_of_model(layout, rank)].contiguous()
        tensors = list(part.unbind())
        return tensors, PagedCache.for_layout(tensors, PageAxes.KV_FIRST_NHD, layout)

    chunks = []
    for rank in range(theirs):
        tensors, kept = cache(holder, rank, whole)
        chunks.append(np.zeros(kept.chunk.chunk_bytes, np.uint8))
        kept.gather([3, 1], [chunks[-1]])
    for rank in range(ours):
        tensors, _ = cache(reader, rank, torch.zeros_like(whole))
        for part in head_slices(reader, holder, rank):
            _, of_holder = cache(holder, part.rank, whole)
            target = PagedCache(_memory(tensors), of_holder.chunk)
            target.scatter([chunks[part.rank]], [0, 4], part.heads)
        wanted = whole[:, :, :, :, _heads_of_model(reader, rank)]
        assert torch.equal(torch.stack(tensors)[:, :, [0, 4]], wanted[:, :, [3, 1]])


def _memory(tensors):
    return PageMemory.of_tensors(tensors, PageAxes.KV_FIRST_NHD)
