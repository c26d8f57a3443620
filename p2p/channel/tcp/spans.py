"""Transfers cut into spans, spans gathered in parcels, and what a peer's spans may touch.

A span is a range of bytes of one segment, by its distance from the segment's base. It never leaves
the blocks of its region: gaps between blocks are out of reach. Behind the last segment counts the
region's probe as one more, with one block. Pure arithmetic.
"""

import ctypes
import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from p2p.errors import ProtocolError
from p2p.regions import PROBE_BYTES, Region

PIECE_BYTES = 1 << 20  # received by one system call
MAX_SPANS = 1024  # of one request, and of one system call
SPAN = np.dtype([("segment", "<u4"), ("length", "<u4"), ("offset", "<u8")])

Indexes = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.int64]
Spans = npt.NDArray[np.void]
Span = tuple[int, int, int]  # segment, length, offset
_FEW = 64  # up to here Python is faster than NumPy
_PACKED = struct.Struct("<IIQ")


@dataclass(frozen=True, slots=True)
class Parcel:
    """What one request moves: spans of ours and as many of the peer's, pairwise of one length."""

    ours: list[Span]
    theirs: list[Span]
    num_bytes: int


def parcels(
    regions: tuple[Region, Region], blocks: tuple[Indexes, Indexes], parcel_bytes: int
) -> Iterator[Parcel]:
    """Yields parcels of at most ``parcel_bytes`` each that together are a transfer.

    Args:
        regions: ours and the peer's; their segments have the same lengths.
        blocks: ours and the peer's, as many of each, at least one.
        parcel_bytes: at least `PIECE_BYTES`.
    """
    few = len(blocks[0]) * len(regions[0].segments) <= _FEW
    ours, theirs = (_few_spans if few else _many_spans)(regions, blocks)
    start = num_bytes = 0
    for stop, (_, length, _) in enumerate(ours):
        if num_bytes + length > parcel_bytes or stop - start == MAX_SPANS:
            yield Parcel(ours[start:stop], theirs[start:stop], num_bytes)
            start, num_bytes = stop, 0
        num_bytes += length
    yield Parcel(ours[start:], theirs[start:], num_bytes)


def encode_spans(spans: list[Span]) -> bytes:
    """Returns spans as they travel."""
    return b"".join(itertools.starmap(_PACKED.pack, spans))


def decode_spans(peer: str, content: bytes) -> Spans:
    """Returns the spans that a peer sent: one or more, not checked yet."""
    if not content or len(content) % SPAN.itemsize:
        raise ProtocolError(f"{peer}: {len(content)} bytes are no list of spans")
    return np.frombuffer(content, SPAN)


class Bounds:
    """What spans of one region may touch.

    Args:
        region: ours.
        has_probe: its probe is in reach too; nobody may write there.
    """

    def __init__(self, region: Region, *, has_probe: bool = True) -> None:
        segments = region.segments
        strides = [segment.stride for segment in segments]
        lengths = [segment.length for segment in segments]
        counts = [region.count] * len(segments)
        if has_probe and region.probe is not None:
            strides, lengths = [*strides, PROBE_BYTES], [*lengths, PROBE_BYTES]
            counts = [*counts, 1]
        ends = [stride * count for stride, count in zip(strides, counts, strict=True)]
        self._segments = list(zip(strides, lengths, ends, strict=True))
        self._stride = np.array(strides, np.uint64)
        self._length = np.array(lengths, np.uint64)
        self._end = np.array(ends, np.uint64)
        self._is_dense = self._stride == self._length

    def check(self, peer: str, spans: Spans) -> None:
        """Lets pass what lies in blocks.

        Raises:
            ProtocolError: a span does not; names its field.
        """
        if len(spans) <= _FEW:
            for span in spans.tolist():
                self._check_one(peer, *span)
            return
        if int(spans["segment"].max()) >= len(self._segments):
            raise _wrong(peer, "segment", f"there are {len(self._segments)}")
        if not (spans["length"].all() and int(spans["length"].max()) <= PIECE_BYTES):
            raise _wrong(peer, "length", f"must be from 1 to {PIECE_BYTES}")
        number = spans["segment"]
        offset, length = spans["offset"], spans["length"].astype(np.uint64)
        end = self._end[number]
        is_inside = (offset < end) & (length <= end - np.minimum(offset, end))
        within = offset % self._stride[number] + length <= self._length[number]
        if not (is_inside & (within | self._is_dense[number])).all():
            raise _wrong(peer, "offset", "lies outside of the region's blocks")

    def _check_one(self, peer: str, segment: int, length: int, offset: int) -> None:
        if segment >= len(self._segments):
            raise _wrong(peer, "segment", f"there are {len(self._segments)}, not {segment}")
        if not 1 <= length <= PIECE_BYTES:
            raise _wrong(peer, "length", f"{length} is not from 1 to {PIECE_BYTES}")
        stride, block, end = self._segments[segment]
        is_dense = stride == block
        if offset + length > end or not (is_dense or offset % stride + length <= block):
            raise _wrong(peer, "offset", f"{offset} lies outside of the region's blocks")


class Views:
    """A region's memory as views, without a copy. The caller keeps the memory mapped.

    Args:
        region: ours.
    """

    def __init__(self, region: Region) -> None:
        self._segments = [
            memoryview(
                (
                    ctypes.c_ubyte * (segment.stride * (region.count - 1) + segment.length)
                ).from_address(segment.base)
            ).cast("B")
            for segment in region.segments
        ]
        if region.probe is not None:
            probe = (ctypes.c_ubyte * PROBE_BYTES).from_address(region.probe.base)
            self._segments.append(memoryview(probe).cast("B"))

    def of(self, spans: list[Span]) -> list[memoryview]:
        """Returns a view of each of these spans, which lie in the region's blocks."""
        segments = self._segments
        return [segments[segment][offset : offset + length] for segment, length, offset in spans]


def _wrong(peer: str, field: str, reason: str) -> ProtocolError:
    return ProtocolError(f"{peer}: span.{field}: {reason}")


def _few_spans(
    regions: tuple[Region, Region], blocks: tuple[Indexes, Indexes]
) -> tuple[list[Span], list[Span]]:
    """Returns all spans of a transfer, on our side and the peer's: longest runs, in pieces."""
    ours: list[Span] = []
    theirs: list[Span] = []
    pairs = list(zip(blocks[0].tolist(), blocks[1].tolist(), strict=True))
    for number, (our, their) in enumerate(zip(*(r.segments for r in regions), strict=True)):
        is_dense = our.stride == their.stride == our.length
        for local, remote, count in _runs(pairs) if is_dense else ((*p, 1) for p in pairs):
            for done in range(0, count * our.length, PIECE_BYTES):
                length = min(count * our.length - done, PIECE_BYTES)
                ours.append((number, length, local * our.stride + done))
                theirs.append((number, length, remote * their.stride + done))
    return ours, theirs


def _runs(pairs: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Yields where runs of pairs that follow each other begin, and how many they are."""
    start = 0
    for stop in range(1, len(pairs) + 1):
        local, remote = pairs[start]
        count = stop - start
        if stop == len(pairs) or pairs[stop] != (local + count, remote + count):
            yield local, remote, count
            start = stop


def _many_spans(
    regions: tuple[Region, Region], blocks: tuple[Indexes, Indexes]
) -> tuple[list[Span], list[Span]]:
    """Does what `_few_spans` does, in NumPy."""
    ours: list[Spans] = []
    theirs: list[Spans] = []
    for number, pair in enumerate(zip(regions[0].segments, regions[1].segments, strict=True)):
        length = pair[0].length
        is_dense = all(segment.stride == length for segment in pair)
        starts = _run_starts(blocks) if is_dense else np.arange(len(blocks[0]), dtype=np.int64)
        lengths = np.diff(starts, append=len(blocks[0])) * length
        for spans, segment, indexes in zip((ours, theirs), pair, blocks, strict=True):
            offsets = indexes[starts].astype(np.int64) * segment.stride
            spans.append(_pieces(number, offsets, lengths))
    return np.concatenate(ours).tolist(), np.concatenate(theirs).tolist()


def _run_starts(blocks: tuple[Indexes, Indexes]) -> Numbers:
    """Returns where runs begin whose blocks follow each other on both sides."""
    breaks = (np.diff(blocks[0]) != 1) | (np.diff(blocks[1]) != 1)
    return np.concatenate(([0], np.flatnonzero(breaks) + 1))


def _pieces(segment: int, offsets: Numbers, lengths: Numbers) -> Spans:
    """Returns the spans of some runs, none longer than a piece."""
    counts = -(-lengths // PIECE_BYTES)
    run = np.repeat(np.arange(len(lengths)), counts)
    within = (np.arange(len(run)) - np.repeat(np.cumsum(counts) - counts, counts)) * PIECE_BYTES
    spans = np.empty(len(run), SPAN)
    spans["segment"] = segment
    spans["offset"] = offsets[run] + within
    spans["length"] = np.minimum(lengths[run] - within, PIECE_BYTES)
    return spans
