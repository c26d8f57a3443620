"""Links of the `tcp` channel: transfers dealt out to parallel streams."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from p2p.channel.access import Access
from p2p.channel.base import BlockIndexes
from p2p.channel.indexes import checked_pair
from p2p.channel.tcp import frames
from p2p.channel.tcp.frames import Header, Kind
from p2p.channel.tcp.pipe import Pipe
from p2p.channel.tcp.spans import PIECE_BYTES, Parcel, Views, encode_spans, parcels
from p2p.channel.tcp.stream import Job, Stream
from p2p.channel.tcp.transfer import TcpTransfer
from p2p.errors import LinkDownError, PeerRefusedError
from p2p.regions import Region

_PARCEL_BYTES = 8 << 20
_SETTLE_S = 1.0
_SWEEP = 64  # transfers that are remembered
_JOIN_S = 0.05
_GONE = "it has closed the connection"


@dataclass(frozen=True, slots=True)
class Ours:
    """Our side of a channel's links.

    Attributes:
        region: our memory.
        views: of it.
        num_streams: of one link.
    """

    region: Region
    views: Views
    num_streams: int


@dataclass(frozen=True, slots=True)
class Theirs:
    """The other side of one link.

    Attributes:
        peer: its name in our words.
        region: its memory.
        access: what it allows.
        transport: what moves the bytes.
        connect: opens a stream; blocks.
    """

    peer: str
    region: Region
    access: Access
    transport: str
    connect: Callable[[], Pipe]


class TcpLink:
    """Streams to one peer, of this link alone; implements `p2p.channel.base.Link`.

    Args:
        ours: our side.
        theirs: the other side.
        pipe: the first stream's, if it is open already; others are opened when they are needed.
    """

    def __init__(self, ours: Ours, theirs: Theirs, pipe: Pipe | None) -> None:
        self.peer = theirs.peer
        self._ours = ours
        self._theirs = theirs
        self._streams = [
            Stream(theirs.peer, theirs.connect, None if number else pipe, self.go_down)
            for number in range(ours.num_streams)
        ]
        self._numbers = itertools.count(1)
        self._in_flight: list[TcpTransfer] = []
        self._down = ""

    def read(self, local: BlockIndexes, remote: BlockIndexes) -> TcpTransfer:
        """Submits a copy of the peer's blocks onto ours."""
        return self._submit(Kind.READ, local, remote)

    def write(self, local: BlockIndexes, remote: BlockIndexes) -> TcpTransfer:
        """Submits a copy of our blocks onto the peer's.

        Raises:
            PeerRefusedError: the peer's pool is not lent for writing, or we did not ask for that.
        """
        return self._submit(Kind.WRITE, local, remote)

    def transport(self) -> str:
        """Returns ``tcp``, or ``tls``."""
        return self._theirs.transport

    def is_up(self) -> bool:
        """Returns false once every later transfer would be refused."""
        if not self._down and not all(stream.is_open() for stream in self._streams):
            self.go_down(_GONE)
        return not self._down

    def close(self) -> None:
        """Ends the link and its connections. What is in flight is given up and has quiesced."""
        self._down = self._down or "the link is closed"
        for transfer in self._in_flight:
            transfer.cancel()
        self.go_down(self._down)
        for stream in self._streams:
            stream.join(_JOIN_S)

    def go_down(self, reason: str) -> None:
        """Refuses every later transfer and ends the streams; the first reason stays. Any thread."""
        self._down = self._down or reason
        for stream in self._streams:
            stream.stop(self._down)

    def given_up(self) -> list[TcpTransfer]:
        """Returns the given-up transfers that have not quiesced."""
        self._in_flight = [transfer for transfer in self._in_flight if not transfer.has_ended()]
        given_up = [transfer for transfer in self._in_flight if transfer.is_given_up()]
        for transfer in given_up:
            for stream in self._streams:
                stream.drop(transfer)
        return [transfer for transfer in given_up if not transfer.has_ended()]

    def fence(self, reason: str) -> None:
        """Ends the connections if there are given-up transfers, and waits until they quiesced."""
        given_up = self.given_up()
        if given_up:
            self.go_down(reason)
        for transfer in given_up:
            transfer.wait(_SETTLE_S)

    def _submit(self, kind: Kind, local: BlockIndexes, remote: BlockIndexes) -> TcpTransfer:
        if not self.is_up():
            raise LinkDownError(self.peer, self._down)
        ours, theirs = self._ours.region, self._theirs.region
        blocks = checked_pair(local, remote, (ours.count, theirs.count))
        if kind is Kind.WRITE and self._theirs.access is not Access.WRITE:
            raise PeerRefusedError(
                self.peer, "access", Access.WRITE.value, self._theirs.access.value
            )
        is_read = kind is Kind.READ
        if not len(blocks[0]):
            return TcpTransfer(0, is_read=is_read)
        num_idle = sum(not stream.load_bytes for stream in self._streams)
        size = _parcel_bytes(len(blocks[0]) * ours.block_bytes, max(1, num_idle))
        dealt = list(parcels((ours, theirs), blocks, size))
        transfer = TcpTransfer(len(dealt), is_read=is_read)
        if len(self._in_flight) >= _SWEEP:
            self._in_flight = [other for other in self._in_flight if not other.has_ended()]
        self._in_flight.append(transfer)
        for parcel in dealt:
            stream = min(self._streams, key=lambda stream: stream.load_bytes)
            stream.submit(self._job(transfer, kind, parcel))
        return transfer

    def _job(self, transfer: TcpTransfer, kind: Kind, parcel: Parcel) -> Job:
        header = Header(kind, next(self._numbers), parcel.num_bytes, len(parcel.theirs))
        request = frames.encode(header, encode_spans(parcel.theirs))
        return Job(transfer, header, request, self._ours.views.of(parcel.ours))


def _parcel_bytes(num_bytes: int, num_streams: int) -> int:
    """Returns the size of parcels: a part for each stream that has nothing to do, in pieces."""
    pieces = -(-num_bytes // (num_streams * PIECE_BYTES))
    return min(max(pieces, 1) * PIECE_BYTES, _PARCEL_BYTES)
