"""Links and transfers of the `nixl` channel.

A transfer that is in flight keeps its link's resources alive, whatever happens to the link.
"""

import numpy as np

from p2p.agent.nixl_agent import Indexes, Operation, Peering
from p2p.agent.probe import Target
from p2p.agent.reading import ReadingAgent
from p2p.agent.spans import piece_offsets
from p2p.channel.base import BlockIndexes, TransferState
from p2p.channel.indexes import checked_pair
from p2p.errors import LinkDownError
from p2p.regions import Region


class NixlTransfer:
    """One submitted transfer; implements `p2p.channel.base.Transfer`."""

    __slots__ = ("_handle", "_is_settled", "_link", "_operation", "_reason", "_state")

    def __init__(self, link: "NixlLink", operation: Operation, handle: int) -> None:
        self._link = link
        self._operation = operation
        self._is_settled = not handle
        self._handle = handle  # 0 once it is not in flight
        self._state = TransferState.PENDING if handle else TransferState.DONE
        self._reason = ""

    def poll(self) -> TransferState:
        """Returns the state, after making progress."""
        if self._state is TransferState.PENDING:
            self._advance()
        return self._state

    def error(self) -> str:
        """Returns why it failed, or an empty string."""
        return self._reason

    def cancel(self) -> None:
        """Gives it up; it stays in flight until NIXL is done with it or the peer is fenced."""
        self.poll()
        if self._state is TransferState.PENDING:
            self._state = TransferState.CANCELLED
            self._link.suspect()

    def quiesced(self) -> bool:
        """Returns true once NIXL cannot touch memory for it any more."""
        if self._handle:
            self._advance()
        return not self._handle

    def settled(self) -> bool:
        """Returns true once the peer's memory is out of reach too; see the contract on writes."""
        return self.quiesced() and (self._is_settled or self._operation is Operation.READ)

    def lose(self, reason: str) -> None:
        """Records that the agent was destroyed: it is not in flight any more."""
        self._handle = 0
        if self._state is TransferState.PENDING:
            self._state = TransferState.FAILED
            self._reason = reason

    def _advance(self) -> None:
        try:
            if not self._link.has_done(self._handle):
                return
        except LinkDownError as error:
            self.lose(error.reason)
            self._link.break_down(error.reason)
        else:
            self._handle = 0
            self._is_settled = True
            if self._state is TransferState.PENDING:
                self._state = TransferState.DONE
        self._link.forget(self)


class NixlLink:
    """A peer on a reading agent; implements `p2p.channel.base.Link`.

    Args:
        reading: the agent that it lives on.
        peering: the peer there.
        target: what the peer offered.
        region: ours.
        transport: what a probe saw moving the bytes.
    """

    def __init__(
        self,
        reading: ReadingAgent,
        peering: Peering,
        target: Target,
        region: Region,
        transport: str,
    ) -> None:
        self.reading = reading
        self.target = target
        self.is_suspect = False
        self._peering = peering
        self._counts = region.count, target.region.count
        self._offsets = piece_offsets(region), piece_offsets(target.region)
        self._has_many_segments = len(region.segments) > 1
        self._transport = transport
        self._down = ""
        self._is_closed = False
        self._is_loaded = True
        self._in_flight: set[NixlTransfer] = set()

    def read(self, local: BlockIndexes, remote: BlockIndexes) -> NixlTransfer:
        """Submits a copy of the peer's blocks onto ours."""
        return self._submit(Operation.READ, local, remote)

    def write(self, local: BlockIndexes, remote: BlockIndexes) -> NixlTransfer:
        """Submits a copy of our blocks onto the peer's."""
        return self._submit(Operation.WRITE, local, remote)

    def transport(self) -> str:
        """Returns what moved the bytes of the probe with which the link was made."""
        return self._transport

    def is_up(self) -> bool:
        """Returns false once every later transfer would be refused."""
        return not self._down

    def close(self) -> None:
        """Ends the link; what is in flight is given up and keeps its resources until quiesced."""
        if self._is_closed:
            return
        self._is_closed = True
        self._down = self._down or "the link is closed"
        for transfer in tuple(self._in_flight):
            transfer.cancel()
        self._drop_if_idle()

    def num_given_up(self) -> int:
        """Returns how many given-up transfers are in flight, after making progress."""
        return sum(
            transfer.poll() is TransferState.CANCELLED and not transfer.quiesced()
            for transfer in tuple(self._in_flight)
        )

    def is_finished(self) -> bool:
        """Returns whether it is closed and has nothing in flight."""
        return self._is_closed and not self._in_flight

    def lose(self, reason: str) -> None:
        """Records that its agent was destroyed."""
        self._is_loaded = False
        self.go_down(reason)
        for transfer in tuple(self._in_flight):
            transfer.lose(reason)
        self._in_flight.clear()

    def suspect(self) -> None:
        """Notes that a transfer was given up while in flight."""
        self.is_suspect = True

    def go_down(self, reason: str) -> None:
        """Refuses every later transfer with a reason; the first one stays."""
        self._down = self._down or reason

    def break_down(self, reason: str) -> None:
        """Goes down because the connection failed, so that it will not be used again."""
        self.go_down(reason)
        if self._is_loaded:
            self.reading.mark_broken(self._peering)

    def has_done(self, handle: int) -> bool:
        """Makes progress; returns whether a transfer is complete.

        Raises:
            LinkDownError: it failed.
        """
        return self.reading.is_done(self._peering, handle)

    def forget(self, transfer: NixlTransfer) -> None:
        """Notes that a transfer is not in flight any more."""
        self._in_flight.discard(transfer)
        if self._is_closed:
            self._drop_if_idle()

    def _submit(
        self, operation: Operation, local: BlockIndexes, remote: BlockIndexes
    ) -> NixlTransfer:
        if self._down:
            raise LinkDownError(self.target.peer, self._down)
        ours, theirs = checked_pair(local, remote, self._counts)
        if not len(ours):
            return NixlTransfer(self, operation, 0)
        if self._has_many_segments:
            ours = _pieces(self._offsets[0], ours)
            theirs = _pieces(self._offsets[1], theirs)
        try:
            handle = self.reading.submit(operation, ours, self._peering, theirs)
        except LinkDownError as error:
            self.break_down(error.reason)
            raise
        transfer = NixlTransfer(self, operation, handle)
        if handle:
            self._in_flight.add(transfer)
        return transfer

    def _drop_if_idle(self) -> None:
        if self._is_loaded and not self._in_flight:
            self._is_loaded = False
            self.reading.drop_peer(self._peering)


def _pieces(offsets: Indexes, blocks: Indexes) -> Indexes:
    """Returns the descriptor indexes of whole blocks, segment by segment."""
    pieces: Indexes = np.add(offsets, blocks).ravel()
    return pieces
