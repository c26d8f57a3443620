"""Bit sets whose keys are known: what lets a chain be found by one probe instead of one each.

Keys of a chain are mostly admitted together and in order. A probe of a large map waits for three or
four cache lines, and comparing 3 kB that lie side by side for about as long. So keys that come one
behind the other and have the same bit set share one object, whose keys are noted. Who finds it
under the first key of a chain compares the rest of the chain with it. No I/O, no clock, no threads.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise

MIN_KEYS = 24  # fewer are as quickly probed
MAX_KEYS = 128  # a key is searched for among so many


class Stretches:
    """The stretches of one map: integer objects, each with its keys in order, none of them twice.

    The law: whatever key a stretch has, has this very object in the map. Who gives a key another
    bit set therefore calls `cut` before. They are plain integers, because a dict with anything else
    in it is walked through by Python's garbage collector, for milliseconds each time.

    Attributes:
        blob_by_id: the keys of each, by the object's id.
    """

    __slots__ = ("_mask_by_id", "blob_by_id")

    def __init__(self) -> None:
        self.blob_by_id: dict[int, bytes] = {}
        self._mask_by_id: dict[int, int] = {}  # so that no other object gets the id

    def make(self, mask: int, blob: bytes, key_bytes: int) -> list[int]:
        """Returns an object for each key of a blob, equal to ``mask``; many share one.

        Args:
            mask: their bit set.
            blob: keys, none of them twice.
            key_bytes: length of each.
        """
        num_keys = len(blob) // key_bytes
        if num_keys < MIN_KEYS:
            return [mask] * num_keys
        objects: list[int] = []
        for first, last in _pieces(num_keys):
            own = mask + 0  # an object of its own, as no bit set is a small number
            self._mask_by_id[id(own)] = own
            self.blob_by_id[id(own)] = blob[first * key_bytes : last * key_bytes]
            objects += [own] * (last - first)
        return objects

    def forget(self, objects: Iterable[int]) -> None:
        """Forgets what `make` returned, which is nowhere in the map."""
        for number in set(map(id, objects)) & self.blob_by_id.keys():
            del self.blob_by_id[number], self._mask_by_id[number]

    def cut(self, mask: int, key: bytes) -> None:
        """Lets a stretch, if this is one, forget a key, and those behind it."""
        number = id(mask)
        blob = self.blob_by_id.get(number)
        if blob is None:
            return
        at = blob.rfind(key)  # chains lose their last chunks first
        if at > 0 and at % len(key) == 0:
            self.blob_by_id[number] = blob[:at]
        elif at >= 0:
            del self.blob_by_id[number], self._mask_by_id[number]

    def num_next(self, mask: int, chain: bytes, start: int, key: bytes) -> int:
        """Returns how many keys of a chain are in a stretch, one behind the other.

        Args:
            mask: the object that the map has for ``key``; 0 are in what is no stretch.
            chain: keys of one length.
            start: in the chain, in bytes.
            key: the one that begins there.
        """
        blob, key_bytes = self.blob_by_id.get(id(mask), b""), len(key)
        at = blob.find(key)
        if at < 0 or at % key_bytes:  # cut off, or a piece of two keys looks like this one
            return 0
        num_bytes, num_left = len(blob) - at, len(chain) - start
        if num_bytes <= num_left:
            is_equal = chain.startswith(blob[at:], start)
        else:
            num_bytes = num_left
            is_equal = blob.startswith(chain[start:], at)
        if is_equal:
            return num_bytes // key_bytes
        return _num_equal(blob[at:], chain[start : start + num_bytes], key_bytes)


def _pieces(num_keys: int) -> Iterator[tuple[int, int]]:
    """Yields where pieces of about the same size begin and end."""
    num_pieces = -(-num_keys // MAX_KEYS)
    return pairwise(num_keys * number // num_pieces for number in range(num_pieces + 1))


def _num_equal(ours: bytes, theirs: bytes, key_bytes: int) -> int:
    """Returns how many leading keys of two different blobs, the first of them one, are equal."""
    low, high = 1, len(theirs) // key_bytes
    while high - low > 1:
        middle = (low + high) // 2
        part = slice(low * key_bytes, middle * key_bytes)
        if ours[part] == theirs[part]:
            low = middle
        else:
            high = middle
    return low
