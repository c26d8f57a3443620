"""Block indexes of a transfer, checked against their region before anything is sent.

One bad index would cost the whole connection in some transports.
"""

import numpy as np
import numpy.typing as npt

from p2p.channel.base import BlockIndexes
from p2p.errors import ArgumentError

_SHORT = 16  # up to here Python's min and max are faster than numpy's
_INT32 = np.dtype(np.int32)


def checked_indexes(name: str, blocks: BlockIndexes, count: int) -> npt.NDArray[np.int32]:
    """Returns block indexes as a contiguous int32 array; such an array is not copied.

    Raises:
        ArgumentError: an index is not a whole number from 0 to ``count`` - 1.
    """
    if len(blocks) == 0:
        return np.empty(0, np.int32)
    indexes = np.asarray(blocks)
    if indexes.ndim != 1 or indexes.dtype.kind not in "iu":
        raise ArgumentError(name, blocks, "must be a flat sequence of whole numbers")
    low, high = _bounds(blocks, indexes)
    if low < 0 or high >= count:
        wrong = low if low < 0 else high
        raise ArgumentError(name, wrong, f"lies outside of its region of {count} blocks")
    if indexes.dtype is _INT32 and indexes.flags.c_contiguous:
        return indexes
    return np.ascontiguousarray(indexes, dtype=np.int32)


def _bounds(blocks: BlockIndexes, indexes: npt.NDArray[np.int32]) -> tuple[int, int]:
    if len(blocks) > _SHORT:
        return int(np.minimum.reduce(indexes)), int(np.maximum.reduce(indexes))
    numbers = indexes.tolist() if blocks is indexes else blocks
    return int(min(numbers)), int(max(numbers))


def checked_pair(
    local: BlockIndexes, remote: BlockIndexes, counts: tuple[int, int]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Returns the indexes of both sides, checked against their block counts.

    Raises:
        ArgumentError: lengths differ, or an index lies outside its region.
    """
    if len(local) != len(remote):
        reason = f"{len(local)} local blocks need as many remote ones"
        raise ArgumentError("remote", len(remote), reason)
    ours = checked_indexes("local", local, counts[0])
    theirs = checked_indexes("remote", remote, counts[1])
    return ours, theirs
