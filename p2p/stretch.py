"""Bit sets that know whose they are: what lets a chain be found by one probe instead of one each.

Keys of a chain are mostly admitted together and in order. A probe of a large map waits for three or
four cache lines, and comparing 3 kB that lie side by side for about as long. So keys that come one
behind the other and have the same bit set share one object, which also keeps the keys. Who finds it
under the first key of a chain compares the rest of the chain with it. No I/O, no clock, no threads.
"""

from collections.abc import Iterator
from itertools import pairwise

MIN_KEYS = 24  # fewer are as quickly probed
MAX_KEYS = 128  # a key is searched for among so many


class Stretch(int):
    """The bit set of some keys, and these keys in order.

    Its law: whatever key is in ``blob`` has this very object in its map. Who gives a key another
    bit set therefore calls `cut` before.

    Attributes:
        blob: the keys, none of them twice.
    """

    blob: bytes

    def cut(self, key: bytes) -> None:
        """Forgets a key, and those behind it."""
        at = self.blob.rfind(key)  # chains lose their last chunks first
        if at >= 0:
            self.blob = self.blob[:at] if at % len(key) == 0 else b""

    def num_next(self, chain: bytes, start: int, key: bytes) -> int:
        """Returns how many keys of a chain are here, one behind the other.

        Args:
            chain: keys of one length.
            start: in the chain, in bytes.
            key: the one that begins there; it has this object in its map.
        """
        blob, key_bytes = self.blob, len(key)
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


def stretches(mask: int, blob: bytes, key_bytes: int) -> list[int]:
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
        stretch = Stretch(mask)
        stretch.blob = blob[first * key_bytes : last * key_bytes]
        objects += [stretch] * (last - first)
    return objects


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
