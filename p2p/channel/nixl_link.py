"""Links and transfers of the `nixl` channel.

A transfer that is in flight keeps its link's resources alive, whatever happens to the link. A link
leaves an agent on which another peer's transfer was given up: what it submits next goes to a fresh
one, what runs already ends where it is.
"""

import time
from collections.abc import Collection, Iterator
from typing import Protocol

import numpy as np

from p2p.agent.nixl_agent import Indexes, Operation, Peering
from p2p.agent.probe import Proof, Target
from p2p.agent.reading import ReadingAgent
from p2p.agent.spans import piece_offsets
from p2p.channel.base import BlockIndexes, TransferState
from p2p.channel.indexes import checked_pair
from p2p.errors import LinkDownError, P2PError
from p2p.regions import Region

_TRUST_S = 5.0
_SILENT = f"its agent was given up, and the peer has been silent for {_TRUST_S:g} s: dial again"


class NixlTransfer:
    """One submitted transfer; implements `p2p.channel.base.Transfer`."""

    __slots__ = ("_handle", "_is_settled", "_link", "_operation", "_reason", "_seat", "_state")

    def __init__(self, link: "NixlLink", seat: "Seat", operation: Operation, handle: int) -> None:
        self._link = link
        self._seat = seat
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
            self._link.suspect(self._seat)

    def quiesced(self) -> bool:
        """Returns true once NIXL cannot touch memory for it any more."""
        if self._handle:
            self._advance()
        return not self._handle

    def is_given_up(self) -> bool:
        """Returns whether it was cancelled and, as far as was seen, is in flight."""
        return self._state is TransferState.CANCELLED and self._handle != 0

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
            if not self._seat.has_done(self._handle):
                return
        except LinkDownError as error:
            self.lose(error.reason)
            self._link.break_down(error.reason)
        else:
            self._handle = 0
            self._is_settled = True
            if self._state is TransferState.PENDING:
                self._state = TransferState.DONE
            self._link.note_alive()
        self._link.forget(self._seat, self)


class Seat:
    """A peer's place on one reading agent, and what is in flight there.

    Args:
        reading: the agent.
        peering: the peer there.

    Attributes:
        is_gone: the agent was destroyed, or the peer dropped from it.
    """

    __slots__ = ("_peering", "in_flight", "is_gone", "reading")

    def __init__(self, reading: ReadingAgent, peering: Peering) -> None:
        self.reading = reading
        self.in_flight: set[NixlTransfer] = set()
        self.is_gone = False
        self._peering = peering

    def submit(self, operation: Operation, ours: Indexes, theirs: Indexes) -> int:
        """Starts a transfer; returns its handle, or 0 if it is complete already.

        Raises:
            LinkDownError: the peer is gone.
        """
        return self.reading.submit(operation, ours, self._peering, theirs)

    def has_done(self, handle: int) -> bool:
        """Makes progress; returns whether a transfer is complete.

        Raises:
            LinkDownError: it failed.
        """
        return self.reading.is_done(self._peering, handle)

    def num_given_up(self) -> int:
        """Returns how many given-up transfers are in flight, after making progress."""
        return sum(
            transfer.poll() is TransferState.CANCELLED and not transfer.quiesced()
            for transfer in tuple(self.in_flight)
        )

    def is_guilty(self) -> bool:
        """Returns whether a given-up transfer was in flight when last seen. Touches no agent."""
        return any(transfer.is_given_up() for transfer in self.in_flight)

    def num_running(self) -> int:
        """Returns how many wanted transfers are in flight, after making progress."""
        return sum(transfer.poll() is TransferState.PENDING for transfer in tuple(self.in_flight))

    def mark_broken(self) -> None:
        """Notes that the connection failed, so that it will not be used again."""
        if not self.is_gone:
            self.reading.mark_broken(self._peering)

    def lose(self, reason: str) -> None:
        """Records that the agent was destroyed."""
        self.is_gone = True
        for transfer in tuple(self.in_flight):
            transfer.lose(reason)
        self.in_flight.clear()

    def drop_if_idle(self) -> bool:
        """Drops the peer from the agent unless something is in flight; returns whether it did."""
        if self.is_gone or self.in_flight:
            return False
        self.is_gone = True
        self.reading.drop_peer(self._peering)
        return True


class Seating(Protocol):
    """Who decides on which agents links live: their channel."""

    def on_suspect(self, link: "NixlLink", reading: ReadingAgent) -> None:
        """Hears that a transfer was given up in flight on an agent."""
        ...

    def must_leave(self, link: "NixlLink") -> bool:
        """Returns whether a link on a tainted agent must submit elsewhere."""
        ...

    def seat(self, target: Target, agent: str) -> Seat:
        """Returns a place for a peer that was alive just now.

        Raises:
            P2PError: it died since, or there can be no further agent.
        """
        ...

    def on_left(self) -> None:
        """Hears that a link gave a place up."""
        ...


class NixlLink:
    """A peer on a reading agent; implements `p2p.channel.base.Link`.

    Args:
        seating: moves it to other agents.
        seat: its place on an agent.
        target: what the peer offered.
        region: ours.
        proof: what a probe found out about the peer.
        alive_s: when that was.
    """

    def __init__(
        self,
        seating: Seating,
        seat: Seat,
        target: Target,
        region: Region,
        proof: Proof,
        alive_s: float,
    ) -> None:
        self.target = target
        self.is_suspect = False
        self._seating = seating
        self._seat = seat
        self._left: list[Seat] = []  # with transfers that run to their end there
        self._counts = region.count, target.region.count
        self._offsets = piece_offsets(region), piece_offsets(target.region)
        self._has_many_segments = len(region.segments) > 1
        self._proof = proof
        self._alive_s = alive_s
        self._down = ""
        self._is_closed = False

    def read(self, local: BlockIndexes, remote: BlockIndexes) -> NixlTransfer:
        """Submits a copy of the peer's blocks onto ours."""
        return self._submit(Operation.READ, local, remote)

    def write(self, local: BlockIndexes, remote: BlockIndexes) -> NixlTransfer:
        """Submits a copy of our blocks onto the peer's."""
        return self._submit(Operation.WRITE, local, remote)

    def transport(self) -> str:
        """Returns what moved the bytes of the probe with which the link was made."""
        return self._proof.transport

    def is_up(self) -> bool:
        """Returns false once every later transfer would be refused."""
        if not self._down and self._must_move():
            self._check_trust()
        return not self._down

    def close(self) -> None:
        """Ends the link; what is in flight is given up and keeps its resources until quiesced."""
        if self._is_closed:
            return
        self._is_closed = True
        self.go_down("the link is closed")
        for seat in self.seats():
            for transfer in tuple(seat.in_flight):
                transfer.cancel()
            self._give_up_if_idle(seat)

    @property
    def reading(self) -> ReadingAgent:
        """The agent for new transfers."""
        return self._seat.reading

    def seats(self) -> tuple[Seat, ...]:
        """Returns its places on agents, the one for new transfers last."""
        return *self._left, self._seat

    def given_up(self) -> Iterator[ReadingAgent]:
        """Yields the agent of each given-up transfer in flight, after making progress."""
        for seat in self.seats():
            for _ in range(seat.num_given_up()):
                yield seat.reading

    def num_running(self, readings: Collection[ReadingAgent]) -> int:
        """Returns how many wanted transfers are in flight on agents, after making progress."""
        return sum(seat.num_running() for seat in self.seats() if seat.reading in readings)

    def is_busy_on(self, reading: ReadingAgent) -> bool:
        """Returns whether something was in flight on an agent when last seen. Touches none."""
        return any(seat.in_flight and seat.reading is reading for seat in self.seats())

    def is_finished(self) -> bool:
        """Returns whether it was ended, by its owner or a fence, and has nothing in flight."""
        is_over = self._is_closed or (self._down and self._seat.is_gone)
        return bool(is_over) and not any(seat.in_flight for seat in self.seats())

    def lose(self, reading: ReadingAgent, reason: str) -> None:
        """Records that an agent was destroyed. The link stays up if it was innocent."""
        for seat in self.seats():
            if seat.reading is not reading or seat.is_gone:
                continue
            if seat is self._seat and seat.is_guilty():
                self.go_down(reason)
            seat.lose(reason)
        self._left = [seat for seat in self._left if not seat.is_gone]

    def suspect(self, seat: Seat) -> None:
        """Notes that a transfer was given up while in flight."""
        self.is_suspect = True
        self._seating.on_suspect(self, seat.reading)

    def go_down(self, reason: str) -> None:
        """Refuses every later transfer with a reason; the first one stays."""
        self._down = self._down or reason

    def break_down(self, reason: str) -> None:
        """Goes down because the connection failed, so that it will not be used again."""
        self.go_down(reason)
        for seat in self.seats():
            seat.mark_broken()

    def note_alive(self) -> None:
        """Notes that a transfer went well."""
        self._alive_s = time.monotonic()

    def forget(self, seat: Seat, transfer: NixlTransfer) -> None:
        """Notes that a transfer is not in flight any more."""
        seat.in_flight.discard(transfer)
        if self._is_closed or seat is not self._seat:
            self._give_up_if_idle(seat)

    def _submit(
        self, operation: Operation, local: BlockIndexes, remote: BlockIndexes
    ) -> NixlTransfer:
        if self._down:
            raise LinkDownError(self.target.peer, self._down)
        ours, theirs = checked_pair(local, remote, self._counts)
        if not len(ours):
            return NixlTransfer(self, self._seat, operation, 0)
        if self._has_many_segments:
            ours = _pieces(self._offsets[0], ours)
            theirs = _pieces(self._offsets[1], theirs)
        if self._must_move():
            self._move()
        seat = self._seat
        try:
            handle = seat.submit(operation, ours, theirs)
        except LinkDownError as error:
            self.break_down(error.reason)
            raise
        transfer = NixlTransfer(self, seat, operation, handle)
        if handle:
            seat.in_flight.add(transfer)
        else:
            self.note_alive()
        return transfer

    def _must_move(self) -> bool:
        seat = self._seat
        return seat.is_gone or (seat.reading.is_tainted and self._seating.must_leave(self))

    def _move(self) -> None:
        """Takes a place on another agent; what is in flight stays where it is.

        Raises:
            LinkDownError: the peer is not trusted to answer, or did not.
        """
        self._check_trust()
        if not self._down:
            try:
                seat = self._seating.seat(self.target, self._proof.agent)
            except P2PError as error:
                self.go_down(f"it cannot move to another agent: {error}")
            else:
                self._left.append(self._seat)
                self._seat = seat
                self._give_up_if_idle(self._left[-1])
        if self._down:
            raise LinkDownError(self.target.peer, self._down)

    def _check_trust(self) -> None:
        """Loading the metadata of a host that went away would block for seconds."""
        if time.monotonic() > self._alive_s + _TRUST_S:
            self.go_down(_SILENT)

    def _give_up_if_idle(self, seat: Seat) -> None:
        is_dropped = seat.drop_if_idle()
        if seat.is_gone:
            self._left = [other for other in self._left if other is not seat]
        if is_dropped:
            self._seating.on_left()


def _pieces(offsets: Indexes, blocks: Indexes) -> Indexes:
    """Returns the descriptor indexes of whole blocks, segment by segment."""
    pieces: Indexes = np.add(offsets, blocks).ravel()
    return pieces
