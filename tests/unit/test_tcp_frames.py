"""Frames and spans of the `tcp` channel, with lies in every field."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.channel.tcp import frames
from p2p.channel.tcp.frames import HEADER_BYTES, MAX_BYTES, Header, Kind
from p2p.channel.tcp.spans import (
    MAX_SPANS,
    PIECE_BYTES,
    SPAN,
    Bounds,
    Spans,
    decode_spans,
    encode_spans,
    parcels,
)
from p2p.errors import ProtocolError
from p2p.regions import Region, Segment

MIB = 1 << 20
DENSE = Region((Segment(1 << 20, 3 * MIB, 3 * MIB),), 8)
STRIDED = Region((Segment(4096, 128, 100), Segment(1 << 30, 64, 64)), 1000)


def forged(content: bytes) -> bytes:
    """Returns a header's first 28 bytes with the checksum that belongs to them."""
    return content + struct.pack("<I", zlib.crc32(content))


def test_a_header_comes_back():
    for header in (Header(Kind.READ, 7, 4096, 3), Header(Kind.BYTES, (1 << 64) - 1, 1, 0)):
        spans = bytes(header.spans_bytes)
        content = frames.encode(header, spans)
        found, checksum = frames.decode("peer", content[:HEADER_BYTES])
        assert found == header
        frames.check_spans("peer", spans, checksum)
        with pytest.raises(ProtocolError, match="damaged"):
            frames.check_spans("peer", spans + b"\1", checksum)


@settings(deadline=None)
@given(st.integers(0, HEADER_BYTES - 1), st.integers(1, 255))
def test_every_changed_byte_of_a_header_is_noticed(position, change):
    content = bytearray(frames.encode(Header(Kind.BYTES, 7, 4096, 0)))
    content[position] ^= change
    with pytest.raises(ProtocolError, match="header"):
        frames.decode("peer", content)


@settings(deadline=None)
@given(st.binary(min_size=0, max_size=2 * HEADER_BYTES))
def test_garbage_is_no_header(content):
    with pytest.raises(ProtocolError, match="peer"):
        frames.decode("peer", content)


@settings(deadline=None)
@given(st.binary(min_size=HEADER_BYTES - 4, max_size=HEADER_BYTES - 4))
def test_a_forged_header_is_refused_or_within_limits(content):
    for start in (content, b"P2P\x01" + content[4:]):
        try:
            header, _ = frames.decode("peer", forged(start))
        except ProtocolError:
            continue
        assert 1 <= header.num_bytes <= MAX_BYTES
        assert 0 <= header.num_spans <= MAX_SPANS


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ((b"HTTP", 1, 1, 1, 1, 0), "magic"),
        ((b"P2P\x01", 0, 1, 1, 1, 0), "kind"),
        ((b"P2P\x01", 5, 0, 1, 1, 0), "kind"),
        ((b"P2P\x01", 1, 0, 1, 1, 0), "num_spans"),
        ((b"P2P\x01", 1, MAX_SPANS + 1, 1, 1, 0), "num_spans"),
        ((b"P2P\x01", 3, 1, 1, 1, 0), "num_spans"),
        ((b"P2P\x01", 3, 0, 1, 0, 0), "num_bytes"),
        ((b"P2P\x01", 3, 0, 1, MAX_BYTES + 1, 0), "num_bytes"),
    ],
)
def test_a_lie_is_named_by_its_field(fields, name):
    with pytest.raises(ProtocolError, match=f"header.{name}"):
        frames.decode("peer", forged(struct.pack("<4sBxHQQI", *fields)))


# Spans


def span(segment: int, offset: int, length: int) -> Spans:
    return np.array([(segment, length, offset)], SPAN)


@pytest.mark.parametrize(
    ("segment", "offset", "length", "name"),
    [
        (2, 0, 1, "segment"),
        ((1 << 32) - 1, 0, 1, "segment"),
        (0, 0, 0, "length"),
        (0, 0, PIECE_BYTES + 1, "length"),
        (0, 0, 101, "offset"),
        (0, 100, 1, "offset"),
        (0, 99, 2, "offset"),
        (0, 128_000, 1, "offset"),
        (0, 127_972, 1, "offset"),
        (1, 64_000, 1, "offset"),
        (1, 63_999, 2, "offset"),
        (1, (1 << 64) - 1, 1, "offset"),
        (1, (1 << 64) - 1, 2, "offset"),
        (1, 1 << 63, 1 << 20, "offset"),
    ],
)
@pytest.mark.parametrize("num_good", [0, 100], ids=["alone", "among-many"])
def test_a_span_outside_of_the_blocks_is_refused_by_its_field(
    segment, offset, length, name, num_good
):
    spans = np.concatenate([*[span(1, 64, 64)] * num_good, span(segment, offset, length)])
    with pytest.raises(ProtocolError, match=f"span.{name}"):
        Bounds(STRIDED).check("peer", spans)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 200), st.integers(0, 130_000)),
        min_size=1,
        max_size=4,
    )
)
def test_spans_that_pass_touch_blocks_only(spans):
    allowed = np.zeros((2, 128_000), bool)
    for number, segment in enumerate(STRIDED.segments):
        for block in range(STRIDED.count):
            start = block * segment.stride
            allowed[number, start : start + segment.length] = True
    content = np.array(spans, SPAN)
    bounds = Bounds(STRIDED)
    answers: list[str | None] = []
    for several in (content, np.concatenate([content] * 70)):  # one by one, and all at once
        try:
            bounds.check("peer", several)
            answers.append(None)
        except ProtocolError:
            answers.append("refused")
    assert answers[0] == answers[1]
    try:
        bounds.check("peer", content)
    except ProtocolError:
        is_good = all(
            segment < 2 and length and allowed[segment, offset : offset + length].sum() == length
            for segment, length, offset in spans
        )
        assert not is_good
        return
    for segment, length, offset in spans:
        assert allowed[segment, offset : offset + length].all()


@pytest.mark.parametrize("num_bytes", [0, 1, SPAN.itemsize - 1, SPAN.itemsize + 1])
def test_half_a_span_is_none(num_bytes):
    with pytest.raises(ProtocolError, match="spans"):
        decode_spans("peer", bytes(num_bytes))


@settings(deadline=None)
@given(st.data())
def test_parcels_move_every_block_where_it_belongs(data):
    region = data.draw(st.sampled_from([DENSE, STRIDED]))
    count = data.draw(st.sampled_from([1, 3, 8] if region is DENSE else [1, 5, 32, 33, 100]))
    index = st.lists(st.integers(0, region.count - 1), min_size=count, max_size=count, unique=True)
    local, remote = (np.array(data.draw(index), np.int32) for _ in range(2))
    size = data.draw(st.sampled_from([MIB, 2 * MIB, 8 * MIB]))
    moved: dict[tuple[int, int], tuple[int, int]] = {}
    for parcel in parcels((region, region), (local, remote), size):
        assert parcel.num_bytes <= size
        assert len(parcel.ours) <= MAX_SPANS
        for spans in (parcel.ours, parcel.theirs):
            Bounds(region).check("peer", decode_spans("peer", encode_spans(spans)))
            assert sum(length for _, length, _ in spans) == parcel.num_bytes
        for ours, theirs in zip(parcel.ours, parcel.theirs, strict=True):
            assert ours[:2] == theirs[:2]
            moved[ours[0], ours[2]] = (theirs[2], ours[1])
    for number, segment in enumerate(region.segments):
        for ours, theirs in zip(local.tolist(), remote.tolist(), strict=True):
            done = 0
            while done < segment.length:
                start = ours * segment.stride + done
                base = max(key[1] for key in moved if key[0] == number and key[1] <= start)
                source, length = moved[number, base]
                assert source + start - base == theirs * segment.stride + done
                done += length - (start - base)


def test_many_scattered_blocks_come_in_several_parcels():
    blocks = np.arange(0, 1000, 2, dtype=np.int32)
    found = list(parcels((STRIDED, STRIDED), (blocks, blocks), 8 * MIB))
    assert [len(parcel.ours) for parcel in found] == [1000]
    everything = np.arange(1000, dtype=np.int32)
    found = list(parcels((STRIDED, STRIDED), (everything, everything), 8 * MIB))
    assert [len(parcel.ours) for parcel in found] == [1001]  # the second segment is one run
