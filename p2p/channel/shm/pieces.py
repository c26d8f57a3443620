"""Cuts a transfer into copies: neighbours together, long ones in parts, short ones in batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from p2p.regions import Region, Segment

Indexes = npt.NDArray[np.int32]


class Copy(NamedTuple):
    """One copy: addresses of this process, and a length in bytes."""

    target: int
    source: int
    num_bytes: int


Batch = list[Copy]


@dataclass(frozen=True, slots=True)
class Place:
    """Blocks on one side of a transfer.

    Attributes:
        region: their memory.
        shift: what is added to the region's addresses to have those of this process.
        blocks: which.
    """

    region: Region
    shift: int
    blocks: Indexes


def cut(target: Place, source: Place, piece_bytes: int) -> list[Batch]:
    """Returns batches of at most ``piece_bytes`` each that together are the transfer."""
    batches: list[Batch] = []
    batch: Batch = []
    room = piece_bytes
    for copy in _copies(target, source):
        for part in _parts(copy, piece_bytes):
            if part.num_bytes > room and batch:
                batches.append(batch)
                batch, room = [], piece_bytes
            batch.append(part)
            room -= part.num_bytes
    if batch:
        batches.append(batch)
    return batches


def _copies(target: Place, source: Place) -> Iterator[Copy]:
    pairs = zip(target.region.segments, source.region.segments, strict=True)
    for ours, theirs in pairs:
        starts = _run_starts(target.blocks, source.blocks, (ours, theirs))
        lengths = np.diff(starts, append=len(target.blocks)) * ours.length
        yield from map(
            Copy,
            _addresses(ours, target, starts),
            _addresses(theirs, source, starts),
            lengths.tolist(),
        )


def _addresses(segment: Segment, place: Place, starts: npt.NDArray[np.int64]) -> list[int]:
    blocks = place.blocks[starts].astype(np.int64)
    addresses: list[int] = (blocks * segment.stride + (segment.base + place.shift)).tolist()
    return addresses


def _run_starts(
    target: Indexes, source: Indexes, segments: tuple[Segment, Segment]
) -> npt.NDArray[np.int64]:
    """Returns where runs begin whose blocks touch each other on both sides."""
    if any(segment.stride != segment.length for segment in segments):
        return np.arange(len(target), dtype=np.int64)
    breaks = (np.diff(target) != 1) | (np.diff(source) != 1)
    return np.concatenate(([0], np.flatnonzero(breaks) + 1))


def _parts(copy: Copy, piece_bytes: int) -> Iterator[Copy]:
    if copy.num_bytes <= piece_bytes:
        yield copy
        return
    for offset in range(0, copy.num_bytes, piece_bytes):
        length = min(piece_bytes, copy.num_bytes - offset)
        yield Copy(copy.target + offset, copy.source + offset, length)
