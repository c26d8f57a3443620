"""What every channel promises: registered regions in, one-sided transfers out.

A channel serves one local region and connects to the regions of peers. Transfers name blocks by
index (a pool's slots); every segment of a block moves. Threads: a channel and everything that it
made is used by one thread at a time; its owner serialises the calls. Nothing here sleeps or waits
unless its docstring says so.
"""

from collections.abc import Sequence
from enum import Enum
from typing import NewType, Protocol

import numpy as np
import numpy.typing as npt

from p2p.wire.messages import ChannelOffer

__all__ = [
    "BlockIndexes",
    "Channel",
    "ChannelName",
    "ChannelOffer",
    "Dialled",
    "Link",
    "Transfer",
    "TransferState",
]

ChannelName = NewType("ChannelName", str)
BlockIndexes = Sequence[int] | npt.NDArray[np.int32]  # an int32 array is the fastest


class TransferState(Enum):
    """Where a transfer stands. Only ``DONE`` means that all bytes are there."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Transfer(Protocol):
    """One submitted read or write. It keeps its link's resources alive until it has quiesced."""

    def poll(self) -> TransferState:
        """Returns the state, after making progress; a final state never changes again."""
        ...

    def error(self) -> str:
        """Returns why the transfer failed, or an empty string."""
        ...

    def cancel(self) -> None:
        """Gives the transfer up: its state becomes ``CANCELLED`` unless it is final already.

        The memory may still be written afterwards: wait for `quiesced` before using it again.
        """
        ...

    def quiesced(self) -> bool:
        """Returns true once it is certain that this transfer can no longer touch our memory."""
        ...

    def settled(self) -> bool:
        """Returns true once it is certain that it can no longer touch the peer's memory either.

        A read settles when it has quiesced. A write settles only by running to its end, given up
        or not: what a failed or fenced write had sent before may still arrive. Whoever granted the
        memory of a write that never settles must not use it again until the writer's process, and
        the connection, are gone; 7 MB have been seen to land after a fence.
        """
        ...


class Link(Protocol):
    """A connected channel to one peer rank."""

    def read(self, local: BlockIndexes, remote: BlockIndexes) -> Transfer:
        """Submits a copy of the peer's blocks ``remote`` onto our blocks ``local``, in order.

        May perform the copy inside the call where the transport does (same host: about 0.15 ms
        per MiB), with the interpreter lock released.

        Raises:
            ArgumentError: lengths differ, or an index lies outside its region; nothing was sent.
            LinkDownError: the peer is gone.
        """
        ...

    def write(self, local: BlockIndexes, remote: BlockIndexes) -> Transfer:
        """Submits a copy of our blocks ``local`` onto the peer's blocks ``remote``, in order.

        Raises: as `read`, and

            PeerRefusedError: the peer does not lend its memory for writing; names the field.
        """
        ...

    def transport(self) -> str:
        """Returns what moves the bytes, such as ``cma`` or ``tcp``, or ``unknown``."""
        ...

    def is_up(self) -> bool:
        """Returns false once every later transfer would be refused."""
        ...

    def close(self) -> None:
        """Ends the link. Its unfinished transfers are cancelled and quiesce as they would."""
        ...


class Dialled(Protocol):
    """A peer that answered; only the kind of channel that dialled looks inside."""

    @property
    def peer(self) -> str:
        """The peer's name in our words."""
        ...

    @property
    def transport(self) -> str:
        """What moves the bytes, as `Link.transport` tells."""
        ...

    @property
    def latency_s(self) -> float:
        """How long a read of `PROBE_BYTES` took, once connected."""
        ...


class Channel(Protocol):
    """One rank's endpoint for one way to move bytes."""

    def offer(self) -> ChannelOffer:
        """Returns what a peer needs to connect to us; constant for the channel's life."""
        ...

    def dial(self, peer: str, offer: ChannelOffer, timeout_s: float) -> Dialled:
        """Finds out whether a peer can be read from; leaves links alone. Blocks, on any thread.

        Reads the probe of the peer's region, if it has one, and compares it.

        Raises:
            PeerUnreachableError: the peer does not answer within ``timeout_s``.
            TransferError: other bytes came than lie in the peer's probe.
            PeerRefusedError: channel or region do not fit ours; names the field.
            ProtocolError: the metadata is not this channel's.
        """
        ...

    def attach(self, dialled: Dialled) -> Link:
        """Returns a link to a peer that just answered, replacing an earlier link to it.

        What `dial` returned on this channel serves its siblings too.

        Raises:
            PeerUnreachableError: it died since.
        """
        ...

    def connect(self, peer: str, offer: ChannelOffer, timeout_s: float) -> Link:
        """Dials and attaches. Blocks; raises what the two raise."""
        ...

    def sibling(self) -> "Channel":
        """Returns a channel over the same region for another thread; it serves nobody itself.

        It is closed before this one.
        """
        ...

    def quarantined(self) -> int:
        """Returns how many given-up transfers have not quiesced, after making progress."""
        ...

    def fence(self, peer: str) -> None:
        """Makes every given-up transfer with a peer quiesce now, at whatever cost. May block 50 ms.

        A fenced write does not settle. The link on which a transfer was given up goes down.

        Links to other peers stay up, and so do transfers submitted to them since the first one was
        given up. Older ones that are still in flight may fail. A link that has been silent for
        longer than its channel trusts a peer may go down instead, and must be connected anew.
        """
        ...

    def close(self) -> None:
        """Closes all links and gives the registration back. Idempotent."""
        ...
