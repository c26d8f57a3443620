"""Header frames: 32 bytes with a checksum of themselves and of the spans that follow a request.

What they announce is followed by as many bytes of payload, which the chunks' digests cover. Pure.
"""

import struct
import zlib
from enum import IntEnum
from typing import NamedTuple

from p2p.channel.tcp.spans import MAX_SPANS, PIECE_BYTES, SPAN
from p2p.errors import ProtocolError

_MAGIC = b"P2P\x01"
_HEADER = struct.Struct("<4sBxHQQI")  # magic, kind, spans, number, bytes, reserved
_CHECKSUM = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CHECKSUM.size
MAX_BYTES = MAX_SPANS * PIECE_BYTES


class Kind(IntEnum):
    """What a frame is."""

    READ = 1  # a request; its spans follow
    WRITE = 2  # a request; its spans follow, then the payload
    BYTES = 3  # the answer to a read; the payload follows
    WRITTEN = 4  # the answer to a write


class Header(NamedTuple):
    """A frame's header.

    Attributes:
        kind: what the frame is.
        number: of the request, chosen by who asks; the answer has the same.
        num_bytes: of the payload.
        num_spans: that follow a request; 0 in an answer.
    """

    kind: Kind
    number: int
    num_bytes: int
    num_spans: int

    @property
    def spans_bytes(self) -> int:
        """Bytes of the spans that follow."""
        return self.num_spans * SPAN.itemsize


def encode(header: Header, spans: bytes = b"") -> bytes:
    """Returns a header with its checksum, and the spans behind it."""
    kind, number, num_bytes, num_spans = header
    content = _HEADER.pack(_MAGIC, kind, num_spans, number, num_bytes, zlib.crc32(spans))
    return content + _CHECKSUM.pack(zlib.crc32(content)) + spans


def decode(peer: str, content: bytes | bytearray) -> tuple[Header, int]:
    """Returns a header and the checksum that its spans must have.

    Raises:
        ProtocolError: it is none, or damaged; names the field.
    """
    if len(content) != HEADER_BYTES:
        raise ProtocolError(f"{peer}: header: {len(content)} bytes, not {HEADER_BYTES}")
    magic, kind, num_spans, number, num_bytes, spans_sum = _HEADER.unpack_from(content)
    (found,) = _CHECKSUM.unpack_from(content, _HEADER.size)
    if found != zlib.crc32(memoryview(content)[: _HEADER.size]):
        raise ProtocolError(f"{peer}: header.checksum: the header is damaged")
    if magic != _MAGIC:
        raise ProtocolError(f"{peer}: header.magic: {magic!r} is not of this protocol")
    if not Kind.READ <= kind <= Kind.WRITTEN:
        raise ProtocolError(f"{peer}: header.kind: there is no {kind}")
    is_request = kind <= Kind.WRITE
    if not (1 <= num_spans <= MAX_SPANS if is_request else num_spans == 0):
        raise ProtocolError(f"{peer}: header.num_spans: {num_spans} of kind {kind}")
    if not 1 <= num_bytes <= MAX_BYTES:
        raise ProtocolError(f"{peer}: header.num_bytes: {num_bytes} is not from 1 to {MAX_BYTES}")
    return Header(Kind(kind), number, num_bytes, num_spans), spans_sum


def check_spans(peer: str, content: bytes | bytearray, expected: int) -> None:
    """Lets spans pass that have this checksum.

    Raises:
        ProtocolError: they are damaged.
    """
    if zlib.crc32(content) != expected:
        raise ProtocolError(f"{peer}: spans: they are damaged")
