"""Segments and regions: how registered memory is described to ourselves and to peers.

A region is cut into equal blocks (a pool calls them slots). Segment s of block b is the byte
range ``(base_s + b * stride_s, length_s)``: a pool has one segment, a paged KV cache has one per
layer and plane. Pure values that travel on the wire as they are. No I/O.
"""

import hashlib
from enum import Enum
from typing import Annotated

import msgspec

from p2p.errors import ArgumentError

PROBE_BYTES = 4096
_MAX_ADDRESS = (1 << 63) - 1
Address = Annotated[int, msgspec.Meta(ge=0, le=_MAX_ADDRESS)]
Size = Annotated[int, msgspec.Meta(ge=1, le=1 << 48)]


class MemoryKind(Enum):
    """Where registered memory lives, by the name that NIXL uses."""

    DRAM = "DRAM"
    VRAM = "VRAM"


class Segment(msgspec.Struct, frozen=True):
    """One byte range per block, equally spaced.

    Attributes:
        base: address of block 0, in bytes.
        stride: distance between two neighbouring blocks, in bytes; at least ``length``.
        length: bytes of one block in this segment.
    """

    base: Address
    stride: Size
    length: Size


class Probe(msgspec.Struct, frozen=True):
    """`PROBE_BYTES` beside a region's blocks that never change: a peer's first read.

    Attributes:
        base: their address.
        seed: what they are made of, as `probe_content` says.
    """

    base: Address
    seed: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


class Region(msgspec.Struct, frozen=True):
    """Registered memory as a peer may address it.

    Attributes:
        segments: what one block consists of, in transfer order.
        count: number of blocks.
        kind: host or device memory.
        device: device ordinal, 0 for host memory.
        probe: what a peer reads first, and compares; None if there is no such place.
    """

    segments: Annotated[tuple[Segment, ...], msgspec.Meta(min_length=1, max_length=4096)]
    count: Size
    kind: MemoryKind = MemoryKind.DRAM
    device: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 0
    probe: Probe | None = None

    @property
    def block_bytes(self) -> int:
        """Bytes of one block over all segments."""
        return sum(segment.length for segment in self.segments)

    def check(self) -> None:
        """Raises `ArgumentError` where blocks overlap or the address range wraps."""
        for number, segment in enumerate(self.segments):
            if segment.stride < segment.length:
                raise ArgumentError(
                    f"segments[{number}].stride",
                    segment.stride,
                    f"less than its length {segment.length}",
                )
            if segment.base + segment.stride * self.count > _MAX_ADDRESS:
                raise ArgumentError(
                    f"segments[{number}].base", segment.base, "the range wraps around"
                )

    def matches(self, other: "Region") -> bool:
        """True if a block of one can be copied onto a block of the other, segment by segment."""
        return [s.length for s in self.segments] == [s.length for s in other.segments]


def probe_content(seed: bytes) -> bytes:
    """Returns the bytes that lie in a probe: SHAKE-128 of its seed, `PROBE_BYTES` of it."""
    return hashlib.shake_128(seed).digest(PROBE_BYTES)
