import mmap
import re
from pathlib import Path

import numpy as np
import pytest

from p2p.agent.memory import DeviceArena, HostArena, available_bytes
from p2p.agent.spans import piece_offsets, spans
from p2p.errors import ArgumentError, ClosedError, ConfigError, MemoryUnavailableError
from p2p.regions import MemoryKind, Region, Segment

THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.fixture
def arena():
    arena = HostArena(10_000)
    yield arena
    arena.close()


def test_an_arena_is_whole_pages_and_aligned(arena):
    assert arena.num_bytes == 3 * mmap.PAGESIZE
    assert arena.address % mmap.PAGESIZE == 0
    assert not arena.view(0, arena.num_bytes).any()


def test_views_are_the_memory_itself(arena):
    arena.view(100, 4)[:] = (1, 2, 3, 4)
    assert arena.view(102, 2).tolist() == [3, 4]
    assert arena.view(8, 8).ctypes.data == arena.address + 8
    assert arena.view(arena.num_bytes, 0).size == 0


def test_a_forked_child_does_not_get_the_memory(arena):
    """A child's copy-on-write would take pages from under transfers."""
    flags: list[str] = []
    is_ours = False
    for line in Path("/proc/self/smaps").read_text().split("\n"):
        if mapping := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            is_ours = int(mapping[1], 16) <= arena.address < int(mapping[2], 16)
        elif is_ours and line.startswith("VmFlags:"):
            flags = line.split()
    assert "dc" in flags


@pytest.mark.skipif(
    not THP.exists() or "[never]" in THP.read_text(), reason="this kernel gives no huge pages"
)
def test_a_large_arena_lies_in_huge_pages():
    arena = HostArena(32 << 20)
    assert arena.address % (2 << 20) == 0
    maps = Path("/proc/self/smaps").read_text().split("\n")
    huge_kib = [int(line.split()[1]) for line in maps if line.startswith("AnonHugePages")]
    assert max(huge_kib) >= 30 << 10


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (0, 12_289), (12_288, 1)])
def test_a_view_outside_of_the_arena_is_refused(arena, offset, length):
    with pytest.raises(ArgumentError) as caught:
        arena.view(offset, length)
    assert caught.value.name == "offset"


def test_pages_are_touched_in_advance():
    resident = resident_bytes()
    arena = HostArena(32 << 20)
    assert resident_bytes() - resident > 30 << 20
    arena.close()


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * mmap.PAGESIZE


def test_memory_outlives_close():
    arena = HostArena(4096)
    view = arena.view(0, 4096)
    arena.close()
    arena.close()
    view[:] = 5
    assert view.sum() == 5 * 4096
    with pytest.raises(ClosedError):
        arena.view(0, 1)


def test_more_memory_than_there_is_names_the_setting():
    with pytest.raises(ConfigError, match=r"pool_bytes = \d+: only [\d.]+ GiB available") as caught:
        HostArena(available_bytes() * 2)
    assert caught.value.key == "pool_bytes"
    with pytest.raises(ConfigError):
        HostArena(0)


def test_slots_fill_the_arena(arena):
    region = arena.region(5000)
    assert region == Region((Segment(arena.address, 5000, 5000),), 2)
    region.check()
    for slot_bytes in (0, arena.num_bytes + 1):
        with pytest.raises(ArgumentError):
            arena.region(slot_bytes)


def test_device_arena_without_a_device_says_so():
    with pytest.raises(MemoryUnavailableError, match="cuda:0"):
        DeviceArena(4096, "cuda:0")


def test_spans_join_what_overlaps_and_nothing_else():
    interleaved = Region((Segment(0, 100, 40), Segment(50, 100, 40)), 3)
    assert spans(interleaved) == [(0, 290)]
    touching = Region((Segment(300, 100, 100), Segment(0, 100, 100)), 3)
    assert spans(touching) == [(0, 300), (300, 300)]
    assert spans(Region((Segment(8, 64, 16),), 2)) == [(8, 80)]


def test_piece_offsets_number_segments_after_each_other():
    region = Region((Segment(0, 10, 10), Segment(100, 10, 10)), 7, MemoryKind.VRAM, 1)
    pieces = piece_offsets(region) + np.array([2, 5], np.int32)
    assert pieces.dtype == np.int32
    assert pieces.tolist() == [[2, 5], [9, 12]]
