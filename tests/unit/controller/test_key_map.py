"""A map in many volumes equals one dict, and its tables stay small."""

import random
import sys

import pytest

from p2p.key_map import _MAX_PUT, KeyMap
from p2p.keys import ChunkKey

LARGEST_TABLE = sys.getsizeof(dict.fromkeys(range(_MAX_PUT)))


def key(number: int) -> ChunkKey:
    return ChunkKey(number.to_bytes(8, "big"))


def keys(*numbers: int) -> list[ChunkKey]:
    return [key(number) for number in numbers]


def put(masks: KeyMap, numbers: list[int], mask: int) -> bool:
    masks.make_room(len(numbers))
    return masks.put_new(keys(*numbers), mask + 0)


@pytest.fixture
def small(monkeypatch) -> None:
    monkeypatch.setattr("p2p.key_map._MAX_PUT", 8)
    monkeypatch.setattr("p2p.key_map._SPARSE_KEYS", 2)


@pytest.mark.usefixtures("small")
def test_a_prefix_is_found_across_volumes_up_to_the_first_key_that_is_nowhere():
    masks = KeyMap()
    for number in (3, 2, 1, 0, 5):  # batches of eight: a volume each
        assert put(masks, [*range(8 * number, 8 * number + 8)], 1000 + number)
    assert len(masks._closed) == 4
    wanted = [1000 + number // 8 for number in range(32)]
    assert list(masks.get_prefix(keys(*range(32)))) == wanted
    assert list(masks.get_prefix(keys(*range(48))))[:33] == [*wanted, None]
    assert masks.get_each(keys(7, 8, 35)) == [1000, 1001, 0]
    assert masks.get_prefix(keys(99, 1))[0] is None


@pytest.mark.usefixtures("small")
def test_what_some_volume_has_is_not_put_again():
    masks = KeyMap()
    assert put(masks, [*range(8)], 1000)
    assert put(masks, [*range(8, 14)], 1001)
    before = dict(masks.items())
    assert not put(masks, [20, 21, 7], 1002)
    assert not put(masks, [20, 13], 1002)
    assert not put(masks, [20, 21, 20], 1002)
    assert dict(masks.items()) == before


@pytest.mark.usefixtures("small")
def test_a_sparse_volume_is_moved_into_the_open_one_and_goes():
    masks = KeyMap()
    assert put(masks, [*range(8)], 1000)
    assert put(masks, [8], 1001)
    (volume,) = masks._closed
    for number in range(6):
        del volume[key(number)]
    assert put(masks, [9], 1001)
    assert masks._closed == []
    assert dict(masks.items()) == dict(zip(keys(6, 7, 8, 9), (1000, 1000, 1001, 1001), strict=True))


def test_keys_that_come_and_go_leave_few_small_volumes():
    masks, held, draw = KeyMap(), set[int](), random.Random(5)  # noqa: S311
    for first in range(0, 2 * _MAX_PUT, 4096):
        numbers = [*range(first, first + 4096)]
        assert put(masks, numbers, 1000)
        held.update(numbers)
        for number in draw.sample(numbers, 3000) if first < _MAX_PUT else []:
            del masks.volume_of(key(number))[key(number)]
            held.remove(number)
    assert {key(number) for number in held} == {known for known, _ in masks.items()}
    volumes = (masks._open, *masks._closed)
    assert len(volumes) <= 3
    assert max(map(sys.getsizeof, volumes)) <= LARGEST_TABLE
