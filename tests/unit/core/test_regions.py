"""Regions and segments: what a peer may address."""

import msgspec
import pytest

from p2p.errors import ArgumentError
from p2p.regions import Region, Segment

TOP = (1 << 63) - 1
REGION = Region((Segment(4096, 128, 64), Segment(8192, 64, 64)), 10)


def test_block_bytes_is_the_sum_over_segments():
    assert REGION.block_bytes == 128


@pytest.mark.parametrize(
    "region", [REGION, Region((Segment(0, 1, 1),), 1), Region((Segment(TOP - 64, 64, 64),), 1)]
)
def test_possible_regions_pass_the_check(region):
    region.check()


def test_blocks_that_overlap_are_refused_with_their_segment():
    with pytest.raises(ArgumentError) as caught:
        Region((Segment(0, 64, 64), Segment(0, 63, 64)), 2).check()
    assert (caught.value.name, caught.value.value) == ("segments[1].stride", 63)


def test_a_range_that_wraps_is_refused_with_its_segment():
    with pytest.raises(ArgumentError) as caught:
        Region((Segment(TOP - 64, 64, 64),), 2).check()
    assert caught.value.name == "segments[0].base"


def test_regions_match_by_segment_lengths_and_nothing_else():
    moved = Region((Segment(0, 64, 64), Segment(64, 256, 64)), 3)
    assert REGION.matches(moved)
    assert not REGION.matches(Region((Segment(0, 128, 128),), 10))
    assert not REGION.matches(Region((Segment(0, 64, 32), Segment(64, 64, 64)), 10))


@pytest.mark.parametrize(
    "content",
    [
        {"segments": [], "count": 1},
        {"segments": [[0, 64, 64]], "count": 1},
        {"segments": [{"base": -1, "stride": 64, "length": 64}], "count": 1},
        {"segments": [{"base": 0, "stride": 0, "length": 64}], "count": 1},
        {"segments": [{"base": 0, "stride": 64, "length": 64}], "count": 0},
        {"segments": [{"base": 0, "stride": 64, "length": 64}], "count": 1, "kind": "FLASH"},
        {"segments": [{"base": 0, "stride": 64, "length": 64}], "count": 1, "device": -1},
    ],
)
def test_a_region_from_the_wire_with_impossible_numbers_does_not_decode(content):
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(content), type=Region)


def test_a_region_survives_the_wire():
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(REGION), type=Region) == REGION
