"""Chunk key to bit set, in a map that grows without standing still. No I/O, no clock, no threads.

A Python dict of 700,000 keys takes 20 to 40 ms to make its table larger, and nobody is answered
meanwhile. So the map has volumes: dicts that take so many keys that none ever grows by a long step,
and then no more. Keys of a chain come together, so nearly every chain is in one volume, and is
looked up there at the speed of the bare dict, or quicker where its keys share a stretch. A volume
that has lost most of its keys is moved into the open one, a few at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, repeat
from typing import TypeAlias

from p2p.keys import Chain, ChunkKey, split_keys
from p2p.stretch import MIN_KEYS, Stretches

_MAX_PUT = (1 << 20) * 2 // 3  # what a table of 2**20 places takes; its own making takes 7 ms
_SPARSE_KEYS = _MAX_PUT // 4
_MAX_CLOSED = 7  # the open volume grows as it likes from then on: five million keys
_PACE = 4  # keys moved for each that comes
_BLOCK_KEYS = 128
_PATIENCE = 2  # short stretches in a row, after which keys are looked up one by one

Volume: TypeAlias = dict[ChunkKey, int]
Span: TypeAlias = tuple[int | None, int]  # a bit set, and how many keys in a row have it


class KeyMap:
    """The map. No bit set in it is 0.

    Attributes:
        stretches: those in it.
    """

    __slots__ = ("_closed", "_num_put", "_open", "stretches")

    def __init__(self) -> None:
        self._open: Volume = {}
        self._closed: list[Volume] = []
        self.stretches = Stretches()
        self._num_put = 0  # into the open volume; what is deleted makes no room in a dict

    def __len__(self) -> int:
        return len(self._open) + sum(map(len, self._closed))

    def items(self) -> Iterator[tuple[ChunkKey, int]]:
        """Returns everything, in no order."""
        for volume in (self._open, *self._closed):
            yield from volume.items()

    def get(self, key: ChunkKey) -> int:
        """Returns the bit set of a key, 0 if there is none."""
        mask = self._open.get(key, 0)
        if not mask:
            for volume in self._closed:
                mask = volume.get(key, 0)
                if mask:
                    break
        return mask

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

    def spans(self, chain: Chain) -> Iterator[Span]:
        """Yields the bit sets of a chain's keys, ending at the first key that has none."""
        blob, key_bytes = chain
        start, patience, end = 0, _PATIENCE, len(blob)
        known = self.stretches.blob_by_id
        while start < end:
            key: ChunkKey = blob[start : start + key_bytes]  # type: ignore[assignment]
            mask = self.get(key)
            if not mask:
                return
            num_keys = 0
            if patience and id(mask) in known:
                num_keys = self.stretches.num_next(mask, blob, start, key)
                patience = _PATIENCE if num_keys >= MIN_KEYS else patience - 1
            if num_keys:
                yield mask, num_keys
            else:
                block = blob[start : start + _BLOCK_KEYS * key_bytes]
                found = self.get_prefix(split_keys(block, key_bytes))
                num_keys, patience = len(found), _PATIENCE
                yield from spans_of(found)
            start += num_keys * key_bytes

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
        volume = self._common_volume(keys)
        return self.volume_of if volume is None else lambda _: volume

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

    def put_new(self, keys: Sequence[ChunkKey], blob: bytes, mask: int) -> bool:
        """Sets the bit set of keys that have none, or returns False and does nothing.

        Args:
            keys: after `make_room` for them.
            blob: the same keys.
            mask: an integer object that is nowhere in the map.
        """
        for volume in self._closed:
            if not volume.keys().isdisjoint(keys):
                return False
        newest = self._open
        num_before = len(newest)
        masks = self.stretches.make(mask, blob, len(keys[0]))
        found = list(map(newest.setdefault, keys, masks))  # one probe for each
        self._num_put += len(newest) - num_before
        if len(newest) - num_before == len(keys):
            return True
        for key, put, known in zip(keys, masks, found, strict=True):
            if known is put:  # so it was not there before
                newest.pop(key, None)
        self.stretches.forget(masks)
        return False

    def share(self, keys: Sequence[ChunkKey], blob: bytes) -> None:
        """Lets keys that come one behind the other share stretches, where their bit sets agree.

        Args:
            keys: any.
            blob: the same keys.
        """
        if len(keys) < MIN_KEYS or len(set(keys)) < len(keys):
            return
        found = self.get_each(keys)
        start, key_bytes = 0, len(keys[0])
        for mask, num_keys in spans_of(found):
            end = start + num_keys
            if mask and num_keys >= MIN_KEYS:
                part = blob[start * key_bytes : end * key_bytes]
                masks = self.stretches.make(mask, part, key_bytes)
                self._replace(keys[start:end], found[start:end], masks)
            start = end

    def _replace(
        self, keys: Sequence[ChunkKey], known: Sequence[int], masks: Sequence[int]
    ) -> None:
        """Gives keys another object for the bit set that they have."""
        volume = self._common_volume(keys)
        blob_by_id = self.stretches.blob_by_id
        if not blob_by_id.keys().isdisjoint(map(id, known)):
            for key, mask in zip(keys, known, strict=True):
                self.stretches.cut(mask, key)
        if volume is not None:
            volume.update(zip(keys, masks, strict=True))
            return
        for key, mask in zip(keys, masks, strict=True):
            self.volume_of(key)[key] = mask

    def _common_volume(self, keys: Sequence[ChunkKey]) -> Volume | None:
        """Returns the volume that all keys are in, or belong in; None if there is no such one."""
        volume = self.volume_of(keys[0])
        if self._closed and not all(map(volume.__contains__, keys)):
            return None
        return volume

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


def spans_of(found: Sequence[int | None]) -> Sequence[Span]:
    """Returns what was found, with equal neighbours put together."""
    if not found:
        return ()
    first = found[0]
    if found.count(first) == len(found):  # a tenth of the time of looking at each
        return ((first, len(found)),)
    return [(mask, len(list(same))) for mask, same in groupby(found)]
