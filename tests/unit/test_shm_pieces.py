"""How a transfer is cut into copies: all bytes once, neighbours together, nothing too large."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.channel.shm import ShmConfig
from p2p.channel.shm.pieces import Place, cut
from p2p.errors import ArgumentError
from p2p.regions import Region, Segment

NUM_BLOCKS = 12


@st.composite
def regions(draw, lengths):
    segments, base = [], 4096
    for length in lengths:
        stride = length + draw(st.sampled_from((0, 0, 7)))
        segments.append(Segment(base, stride, length))
        base += stride * NUM_BLOCKS
    return Region(tuple(segments), NUM_BLOCKS)


@st.composite
def transfers(draw):
    lengths = draw(st.lists(st.integers(1, 50), min_size=1, max_size=3))
    count = draw(st.integers(1, NUM_BLOCKS))
    blocks = [
        np.array(draw(st.permutations(range(NUM_BLOCKS)))[:count], np.int32)
        if draw(st.booleans())
        else np.arange(count, dtype=np.int32)
        for _ in range(2)
    ]
    shift = draw(st.integers(0, 1 << 40))
    target = Place(draw(regions(lengths)), 0, blocks[0])
    return target, Place(draw(regions(lengths)), shift, blocks[1])


def bytes_of(place: Place) -> list[int]:
    """Returns the address of every byte, segment by segment."""
    return [
        segment.base + place.shift + int(block) * segment.stride + offset
        for segment in place.region.segments
        for block in place.blocks
        for offset in range(segment.length)
    ]


@given(transfers(), st.integers(1, 400))
def test_every_byte_is_copied_once_to_its_place(transfer, piece_bytes):
    target, source = transfer
    batches = cut(target, source, piece_bytes)
    pairs = [
        (copy.target + offset, copy.source + offset)
        for batch in batches
        for copy in batch
        for offset in range(copy.num_bytes)
    ]
    assert pairs == list(zip(bytes_of(target), bytes_of(source), strict=True))
    assert all(sum(copy.num_bytes for copy in batch) <= piece_bytes for batch in batches)


def test_neighbours_are_one_copy():
    region = Region((Segment(0, 64, 64),), NUM_BLOCKS)
    ours, theirs = np.array([3, 4, 5, 9, 10], np.int32), np.array([0, 1, 2, 3, 4], np.int32)
    batches = cut(Place(region, 0, ours), Place(region, 1000, theirs), 1 << 20)
    assert batches == [[(192, 1000, 192), (576, 1192, 128)]]


@pytest.mark.parametrize("settings", [{"num_threads": -1}, {"num_threads": 65}])
def test_impossible_numbers_of_threads_are_refused(settings):
    with pytest.raises(ArgumentError, match="num_threads"):
        ShmConfig(**settings)


def test_threads_default_to_the_processors():
    assert 1 <= ShmConfig().threads() <= 8
    assert ShmConfig(num_threads=3).threads() == 3
