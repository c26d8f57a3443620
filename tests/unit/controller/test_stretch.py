"""What a stretch says of a chain is true, whatever its keys look like and whatever was cut off."""

import gc

from hypothesis import given
from hypothesis import strategies as st

from p2p.keys import ChunkKey, join_keys, split_keys
from p2p.stretch import MAX_KEYS, MIN_KEYS, Stretches

KEY_BYTES = 8
ALIKE = st.text("ab", min_size=KEY_BYTES, max_size=KEY_BYTES).map(str.encode)
ROWS = st.lists(ALIKE, min_size=1, max_size=12, unique=True)


def row(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(KEY_BYTES, "big") for number in numbers)


class One:
    """A stretch of any size."""

    def __init__(self, blob: bytes) -> None:
        self.mask, self._all = (1 << 40) + 0, Stretches()
        self._all._mask_by_id[id(self.mask)] = self.mask
        self._all.blob_by_id[id(self.mask)] = blob

    @property
    def blob(self) -> bytes:
        return self._all.blob_by_id.get(id(self.mask), b"")

    def cut(self, key: bytes) -> None:
        self._all.cut(self.mask, key)

    def num_next(self, chain: bytes, start: int, key: bytes) -> int:
        return self._all.num_next(self.mask, chain, start, key)


@given(ROWS, st.lists(ALIKE, max_size=3), st.data())
def test_the_next_keys_are_those_of_the_stretch(keys, others, data):
    """Also where a piece of two keys looks like a third one."""
    first = data.draw(st.integers(0, len(keys) - 1))
    last = data.draw(st.integers(first + 1, len(keys)))
    cut = data.draw(st.sampled_from([b"", *keys]))
    made = One(b"".join(keys))
    if cut:
        made.cut(cut)
    left = split_keys(made.blob, KEY_BYTES)
    assert left == keys[: len(left)]
    assert cut not in left
    chain = [*others, *keys[first:last], *others]
    num = made.num_next(b"".join(chain), len(others) * KEY_BYTES, keys[first])
    assert chain[len(others) : len(others) + num] == left[first : first + num]


def test_a_chain_is_followed_to_its_end_to_that_of_the_stretch_or_to_where_they_part():
    made = One(row(*range(100)))
    assert made.num_next(row(*range(10, 60)), 0, row(10)) == 50
    assert made.num_next(row(*range(60, 160)), 0, row(60)) == 40
    assert made.num_next(row(7, 7, *range(60, 160)), 2 * KEY_BYTES, row(60)) == 40
    for parting in range(1, 50):
        chain = row(*range(20, 20 + parting), *range(500, 550))
        assert made.num_next(chain, 0, row(20)) == parting


def test_what_gets_another_set_is_cut_off_with_what_is_behind():
    made = One(row(*range(100)))
    made.cut(row(90))
    assert made.blob == row(*range(90))
    made.cut(row(95))
    assert made.blob == row(*range(90))
    made.cut(row(0))
    assert made.blob == b""


def test_keys_share_objects_of_about_the_same_size():
    num_keys = 2 * MAX_KEYS + 1
    blob = row(*range(num_keys))
    stretches = Stretches()
    objects = stretches.make(1 << 40, blob, KEY_BYTES)
    assert objects == [1 << 40] * num_keys
    made = list(dict.fromkeys(map(id, objects)))
    sizes = [sum(id(one) == which for one in objects) for which in made]
    assert len(sizes) == 3
    assert max(sizes) - min(sizes) <= 1
    assert b"".join(map(stretches.blob_by_id.__getitem__, made)) == blob
    stretches.forget(objects)
    assert not stretches.blob_by_id


def test_few_keys_share_a_plain_number():
    keys = [ChunkKey(row(number)) for number in range(MIN_KEYS - 1)]
    mask = 1 << 40
    assert all(one is mask for one in Stretches().make(mask, join_keys(keys).blob, KEY_BYTES))


def test_the_garbage_collector_does_not_walk_through_a_map_of_stretches():
    volume = dict.fromkeys([b"a"], Stretches().make(1 << 40, row(*range(MIN_KEYS)), KEY_BYTES)[0])
    assert not gc.is_tracked(volume)
