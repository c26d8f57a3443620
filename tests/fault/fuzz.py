"""Wrong messages of every kind, for any service of this protocol; seeded, so they come again.

`frames` yields multipart messages for a DEALER socket, `streams` raw bytes for the bare port.
Nothing that comes out is a valid request, but mutated ones may still be by accident.
"""

import random
import struct
from collections.abc import Iterator, Sequence

import msgpack

from p2p.wire.codec import MAX_BODY_BYTES, encode_body
from p2p.wire.messages import PROTOCOL_VERSION, Message

Frames = list[bytes]
_NUM_OVERSIZED = 4
_GREETING = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03"
_FOREIGN = (
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b'{"type": "GetStatus"}',
    b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x05posix\x94.",  # the start of a pickle
    b"\x91" * 4096,  # MessagePack nested without end
    b"\xdd\xff\xff\xff\xff",
    b"\xc1",
    b"",
)


class Fuzzer:
    """Makes wrong messages out of right ones.

    Args:
        seed: the same seed makes the same messages.
        valid: right messages of the service.
        foreign: right messages of other services.
    """

    def __init__(self, seed: int, valid: Sequence[Message], foreign: Sequence[Message]) -> None:
        self._random = random.Random(seed)  # noqa: S311
        self._valid = [encode_body(message) for message in valid]
        self._foreign = [*_FOREIGN, *(encode_body(message) for message in foreign)]
        self._makers = (
            self._random_body,
            self._truncated,
            self._mutated,
            self._reshaped,
            self._foreign_body,
            self._wrong_header,
            self._wrong_frames,
        )

    def frames(self, count: int) -> Iterator[Frames]:
        """Yields ``count`` messages; a few of them, evenly spread, are oversized."""
        for number in range(count):
            if number % max(1, count // _NUM_OVERSIZED) == 0:
                yield [self._header() + bytes(MAX_BODY_BYTES + 1)]
            else:
                yield self._random.choice(self._makers)()

    def streams(self, count: int) -> Iterator[bytes]:
        """Yields what a stranger may send to the port, some of it a broken ZMTP greeting."""
        for _ in range(count):
            noise = self._random.randbytes(self._random.randrange(1, 300))
            start = self._random.choice((b"", _GREETING, _GREETING + bytes(53), _FOREIGN[0]))
            yield start + noise

    def _header(self) -> bytes:
        return struct.pack(">HQ", PROTOCOL_VERSION, self._random.randrange(1 << 63))

    def _random_body(self) -> Frames:
        return [self._header() + self._random.randbytes(self._random.randrange(300))]

    def _truncated(self) -> Frames:
        body = self._random.choice(self._valid)
        return [self._header() + body[: self._random.randrange(len(body))]]

    def _mutated(self) -> Frames:
        body = bytearray(self._random.choice(self._valid))
        for _ in range(self._random.randrange(1, 6)):
            body[self._random.randrange(len(body))] = self._random.randrange(256)
        return [self._header() + bytes(body)]

    def _reshaped(self) -> Frames:
        """Right MessagePack with the wrong value in one field."""
        fields = msgpack.unpackb(self._random.choice(self._valid))
        name = self._random.choice(sorted(fields))
        odd: tuple[object, ...] = (
            None,
            -1,
            1 << 63,
            "",
            "x" * 5000,
            b"\xff" * 99,
            [],
            [[]],
            {},
            1.5,
            float("nan"),
        )
        fields[name] = self._random.choice(odd)
        return [self._header() + msgpack.packb(fields)]

    def _foreign_body(self) -> Frames:
        return [self._header() + self._random.choice(self._foreign)]

    def _wrong_header(self) -> Frames:
        version = self._random.choice([0, PROTOCOL_VERSION + 1, 0xFFFF])
        other = struct.pack(">HQ", version, self._random.randrange(1 << 63))
        short = self._random.randbytes(self._random.randrange(10))
        return [self._random.choice([other + self._random.choice(self._valid), short])]

    def _wrong_frames(self) -> Frames:
        number = self._random.choice([2, 3, 4, 20])
        return [self._random.randbytes(self._random.randrange(20)) for _ in range(number)]
