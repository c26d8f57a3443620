"""From a region to what a transport needs: spans to register and the index of every piece.

Pure functions on numbers.
"""

import numpy as np
import numpy.typing as npt

from p2p.regions import PROBE_BYTES, Region


def spans(region: Region) -> list[tuple[int, int]]:
    """Returns the memory that a region lies in, as address and length, in address order.

    Interleaved segments share a span. Spans that only touch stay apart: they may be allocations
    of their own, which a device cannot register as one. What peers read first is a span, too.
    """
    ranges = [
        (segment.base, segment.base + segment.stride * (region.count - 1) + segment.length)
        for segment in region.segments
    ]
    if region.probe is not None:
        ranges.append((region.probe.base, region.probe.base + PROBE_BYTES))
    ranges.sort()
    merged = [ranges[0]]
    for start, end in ranges[1:]:
        last_start, last_end = merged[-1]
        if start < last_end:
            merged[-1] = (last_start, max(end, last_end))
        else:
            merged.append((start, end))
    return [(start, end - start) for start, end in merged]


def piece_offsets(region: Region) -> npt.NDArray[np.int32]:
    """Returns, per segment, the index of its piece of block 0, as a column of shape [S, 1]."""
    return (np.arange(len(region.segments), dtype=np.int32) * np.int32(region.count))[:, None]
