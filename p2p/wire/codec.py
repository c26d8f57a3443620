"""Bytes to messages and back, with limits; the only place that knows the frame. No I/O.

A message is one frame: a header of 10 bytes (protocol version, request id, big-endian) and a
MessagePack body. Request id 0 means that no answer is expected. (A second frame would cost each end
two more calls into ZMQ, about a tenth of a round trip.)
"""

import struct
from types import UnionType
from typing import Generic, NewType, TypeVar

import msgspec

from p2p.errors import ProtocolError
from p2p.wire.messages import PROTOCOL_VERSION, Message

MAX_BODY_BYTES = 8 << 20
ONE_WAY = 0
RequestId = NewType("RequestId", int)

_HEADER = struct.Struct(">HQ")
_encoder = msgspec.msgpack.Encoder()
M = TypeVar("M", bound=Message)


class VersionError(ProtocolError):
    """The sender speaks another protocol version."""

    def __init__(self, version: int, request_id: int) -> None:
        super().__init__(f"protocol version {version}, this side speaks {PROTOCOL_VERSION}")
        self.version = version
        self.request_id = RequestId(request_id)


def encode(message: Message, request_id: int) -> bytes:
    """Returns the frame of a message.

    Raises:
        ProtocolError: if it is too large to be sent.
    """
    return _HEADER.pack(PROTOCOL_VERSION, request_id) + encode_body(message)


def split(frame: bytes) -> tuple[RequestId, memoryview]:
    """Returns the request id and the body, which is not looked at.

    Raises:
        VersionError: another version.
        ProtocolError: not a frame of ours.
    """
    if len(frame) < _HEADER.size:
        raise ProtocolError(f"frame of {len(frame)} bytes, shorter than a header")
    version, request_id = _HEADER.unpack_from(frame)
    if version != PROTOCOL_VERSION:
        raise VersionError(version, request_id)
    return RequestId(request_id), memoryview(frame)[_HEADER.size :]


def encode_body(message: Message) -> bytes:
    """Returns the body of a message.

    Raises:
        ProtocolError: if it is too large to be sent.
    """
    body = _encoder.encode(message)
    if len(body) > MAX_BODY_BYTES:
        raise ProtocolError(
            f"{type(message).__name__} of {len(body)} bytes, limit {MAX_BODY_BYTES}"
        )
    return body


class BodyDecoder(Generic[M]):
    """Decodes bodies of one closed set of messages and rejects everything else.

    Args:
        messages: the set, a union of message structs.
    """

    def __init__(self, messages: type[M] | UnionType) -> None:
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(messages)

    def decode(self, body: bytes | memoryview) -> M:
        """Returns the message.

        Raises:
            ProtocolError: too large, not MessagePack, an unknown message, or a field does not fit.
        """
        if len(body) > MAX_BODY_BYTES:
            raise ProtocolError(f"body of {len(body)} bytes, limit {MAX_BODY_BYTES}")
        try:
            return self._decoder.decode(body)
        except (ValueError, RecursionError, OverflowError) as error:
            # msgspec lets UnicodeDecodeError (a ValueError) and RecursionError out.
            raise ProtocolError(f"{type(error).__name__}: {str(error)[:200]}") from error
