"""Chunk key to bit set, in a map that grows without standing still. No I/O, no clock, no threads.

A Python dict of 700,000 keys takes 20 to 40 ms to make its table larger, and nobody is answered
meanwhile. So the map has volumes: dicts that take so many keys that none ever grows by a long step,
and then no more. Keys of a chain come together, so nearly every chain is in one volume, and is
looked up there at the speed of the bare dict. A volume that has lost most of its keys is moved into
the open one, a few at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import TypeAlias

from p2p.keys import ChunkKey

_MAX_PUT = (1 << 20) * 2 // 3  # what a table of 2**20 places takes; its own making takes 7 ms
_SPARSE_KEYS = _MAX_PUT // 4
_MAX_CLOSED = 7  # the open volume grows as it likes from then on: five million keys
_PACE = 4  # keys moved for each that comes

Volume: TypeAlias = dict[ChunkKey, int]


class KeyMap:
    """The map. No bit set in it is 0."""

    __slots__ = ("_closed", "_num_put", "_open")

    def __init__(self) -> None:
        self._open: Volume = {}
        self._closed: list[Volume] = []
        self._num_put = 0  # into the open volume; what is deleted makes no room in a dict

    def __len__(self) -> int:
        return len(self._open) + sum(map(len, self._closed))

    def items(self) -> Iterator[tuple[ChunkKey, int]]:
        """Returns everything, in no order."""
        for volume in (self._open, *self._closed):
            yield from volume.items()

    def get(self, key: ChunkKey) -> int:
        """Returns the bit set of a key, 0 if there is none."""
        return self.volume_of(key).get(key, 0)

    def get_each(self, keys: Sequence[ChunkKey]) -> list[int]:
        """Returns the bit set of each key, 0 if there is none."""
        if self._closed:
            return list(map(self.get, keys))
        return list(map(self._open.get, keys, repeat(0)))

    def get_prefix(self, keys: Sequence[ChunkKey]) -> Sequence[int | None]:
        """Returns the bit set of each key up to the first that has none, maybe of more.

        Costs what the bare dict costs if all keys are in one volume.
        """
        if not self._closed:
            return list(map(self._open.get, keys))
        found = list(map(self.volume_of(keys[0]).get, keys))
        return found if all(found) else self._find_rest(keys, found)

    def volume_of(self, key: ChunkKey) -> Volume:
        """Returns the volume that a key is in, or belongs in."""
        for volume in self._closed:
            if key in volume:
                return volume
        return self._open

    def volume_finder(self, keys: Sequence[ChunkKey]) -> Callable[[ChunkKey], Volume]:
        """Returns the quickest `volume_of` for these keys, one or more, until some are deleted.

        What is deleted and comes again within a batch may stay in a closed volume: a step too long
        to be taken for every batch, and short enough for one.
        """
        volume = self.volume_of(keys[0])
        if self._closed and not all(map(volume.__contains__, keys)):
            return self.volume_of
        return lambda _: volume

    # ------------------------------------------------------------------ changes

    def make_room(self, num_keys: int) -> None:
        """Goes on moving what is left of sparse volumes; opens a new one if this one is full."""
        num_moved = _PACE * num_keys if self._closed else 0
        if self._num_put + num_keys + num_moved > _MAX_PUT and len(self._closed) < _MAX_CLOSED:
            self._closed.append(self._open)
            self._open, self._num_put = {}, 0
        if num_moved:
            self._settle(num_moved)

    def note_put(self, num_keys: int) -> None:
        """So many keys were put where `volume_of` said that belongs what is nowhere yet."""
        self._num_put += num_keys

    def put_new(self, keys: Sequence[ChunkKey], mask: int) -> bool:
        """Sets the bit set of keys that have none, or returns False and does nothing.

        Args:
            keys: after `make_room` for them.
            mask: an integer object that is nowhere in the map.
        """
        for volume in self._closed:
            if not volume.keys().isdisjoint(keys):
                return False
        newest = self._open
        num_before = len(newest)
        found = list(map(newest.setdefault, keys, repeat(mask)))  # one probe for each
        self._num_put += len(newest) - num_before
        if len(newest) - num_before == len(keys):
            return True
        for key, known in zip(keys, found, strict=True):
            if known is mask:  # so it was not there before
                newest.pop(key, None)
        return False

    def _settle(self, num_keys_max: int) -> None:
        sparse = min(self._closed, key=len)
        if len(sparse) > _SPARSE_KEYS:
            return
        num_keys = min(num_keys_max, len(sparse))
        for _ in range(num_keys):
            key, mask = sparse.popitem()
            self._open[key] = mask
        self._num_put += num_keys
        if not sparse:
            self._closed = [volume for volume in self._closed if volume is not sparse]

    def _find_rest(self, keys: Sequence[ChunkKey], found: list[int | None]) -> list[int | None]:
        """Looks in all volumes for what was not in one, up to the first that is nowhere."""
        for number, mask in enumerate(found):
            if mask is None:
                found[number] = self.get(keys[number]) or None
                if found[number] is None:
                    break
        return found
