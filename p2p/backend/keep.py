"""Whether a fetched chunk is kept, or is a spare copy that goes first: a pure choice.

A pool that keeps everything that it reads holds what other pools hold as well, at the cost of
chunks that are nowhere else. So a first read leaves a spare copy. A chunk that is read again soon
after its spare copy went would have been of use here: now it is kept, unless many others hold it.
No I/O, no clock, no threads.
"""

from collections import OrderedDict

from p2p.keys import ChunkKey

_ENOUGH_HOLDERS = 4  # other holders of a chunk from which one more gains little


class DroppedCopies:
    """Chunks whose spare copies have gone lately.

    Args:
        num_remembered: so many of them, the last ones.
    """

    def __init__(self, num_remembered: int) -> None:
        self._num_remembered = num_remembered
        self._keys: OrderedDict[ChunkKey, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: ChunkKey) -> bool:
        return key in self._keys

    def note(self, key: ChunkKey) -> None:
        """A spare copy has gone."""
        self._keys[key] = None
        self._keys.move_to_end(key)
        if len(self._keys) > self._num_remembered:
            self._keys.popitem(last=False)


def is_kept(keep: str, num_others: int, *, is_missed: bool) -> bool:
    """Returns whether a fetched chunk is kept as if it had been computed here.

    Args:
        keep: ``always``, ``hot`` or ``never``; see `BackendConfig.keep`.
        num_others: other instances that hold it, as far as is known; without any it is kept.
        is_missed: a spare copy of it has gone lately.
    """
    if keep == "always" or num_others < 1:
        return True
    return keep == "hot" and is_missed and num_others < _ENOUGH_HOLDERS
