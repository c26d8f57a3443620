"""A map in many volumes equals one dict, and its tables stay small."""

import random
import sys

import pytest

from p2p.key_map import _MAX_PUT, KeyMap
from p2p.keys import ChunkKey, join_keys

LARGEST_TABLE = sys.getsizeof(dict.fromkeys(range(_MAX_PUT)))


def key(number: int) -> ChunkKey:
    return ChunkKey(number.to_bytes(8, "big"))


def keys(*numbers: int) -> list[ChunkKey]:
    return [key(number) for number in numbers]


def put(masks: KeyMap, numbers: list[int], mask: int) -> bool:
    masks.make_room(len(numbers))
    chain = join_keys(keys(*numbers))
    return masks.put_new(keys(*numbers), chain.blob, mask + 0)


def found(masks: KeyMap, *numbers: int) -> list[int]:
    spans = list(masks.spans(join_keys(keys(*numbers))))
    return [mask for mask, count in spans for _ in range(count) if mask]


class CountingDict(dict[ChunkKey, int]):
    """A dict that counts its probes."""

    num_probes = 0

    def get(self, *arguments):
        self.num_probes += 1
        return super().get(*arguments)


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
    assert found(masks, *range(48)) == wanted


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


def test_a_chain_that_was_put_in_order_takes_a_probe_for_each_stretch():
    masks = KeyMap()
    volume = masks._open = CountingDict()
    assert put(masks, [*range(1000)], 1000)
    volume.num_probes = 0
    assert found(masks, *range(300, 700)) == [1000] * 400
    assert volume.num_probes == 4  # stretches of 125 keys
    volume.num_probes = 0
    assert found(masks, *range(10, 60), *range(5000, 5050)) == [1000] * 50
    assert volume.num_probes == 2


def test_a_chain_that_was_put_in_another_order_is_found_as_well():
    masks, numbers = KeyMap(), [*range(0, 1000, 2), *range(1, 1000, 2)]
    assert put(masks, numbers, 1000)
    assert found(masks, *range(1000), 2000) == [1000] * 1000


def test_keys_that_get_the_same_set_later_share_stretches_then():
    masks = KeyMap()
    for number in range(200):
        assert put(masks, [number], 1000)
    volume = masks._open = CountingDict(masks._open)
    masks.share(keys(*range(100)), join_keys(keys(*range(100))).blob)
    volume.num_probes = 0
    assert found(masks, *range(100)) == [1000] * 100
    assert volume.num_probes == 1
    assert found(masks, *range(200)) == [1000] * 200


def test_keys_that_come_twice_share_nothing():
    masks, numbers = KeyMap(), [*range(50), 0]
    assert put(masks, numbers[:50], 1000)
    before = [id(mask) for _, mask in masks.items()]
    masks.share(keys(*numbers), join_keys(keys(*numbers)).blob)
    assert [id(mask) for _, mask in masks.items()] == before
