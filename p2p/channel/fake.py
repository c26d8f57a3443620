"""An in-memory channel whose transfers a test holds in its hand.

Real copies between real memory of this process, one block at a time, when the network's pace says
so. It fails as NIXL does: a cancelled transfer goes on writing until it has quiesced, a stopped
peer leaves transfers pending, a killed one fails them. Deterministic: no threads, no clock.
"""

import ctypes
from collections import deque
from dataclasses import dataclass

from p2p.agent.nixl_agent import Operation
from p2p.channel.base import BlockIndexes, ChannelName, ChannelOffer, Dialled, TransferState
from p2p.channel.fake_network import FakeNetwork, Health, Pace
from p2p.channel.fit import check_fit, check_probe
from p2p.channel.indexes import checked_pair
from p2p.errors import ArgumentError, ClosedError, LinkDownError, PeerUnreachableError
from p2p.regions import PROBE_BYTES, Region

__all__ = ["FAKE", "FakeChannel", "FakeLink", "FakeNetwork", "FakeTransfer", "Health", "Pace"]

FAKE = ChannelName("fake")


class FakeTransfer:
    """Blocks to be copied one by one; implements `p2p.channel.base.Transfer`.

    Args:
        link: where it was submitted.
        operation: its direction.
        blocks: pairs of our block and the peer's.
    """

    def __init__(
        self, link: "FakeLink", operation: Operation, blocks: list[tuple[int, int]]
    ) -> None:
        self._link = link
        self._operation = operation
        self._blocks = deque(blocks)
        self._is_settled = False
        self._state = TransferState.PENDING
        self._reason = ""
        self._is_in_flight = True

    def poll(self) -> TransferState:
        """Returns the state, after copying a block where the pace says so."""
        if self._state is TransferState.PENDING:
            self._progress()
        return self._state

    def error(self) -> str:
        """Returns why it failed, or an empty string."""
        return self._reason

    def cancel(self) -> None:
        """Gives it up; its blocks go on being copied until it has quiesced."""
        if self._state is TransferState.PENDING:
            self._state = TransferState.CANCELLED

    def quiesced(self) -> bool:
        """Returns whether no block will be copied any more."""
        if self._is_in_flight:
            self._progress()
        return not self._is_in_flight

    def settled(self) -> bool:
        """Returns whether it has quiesced, and is a read or ran to its end."""
        return self.quiesced() and (self._is_settled or self._operation is Operation.READ)

    def is_given_up(self) -> bool:
        """Returns whether it was cancelled and may still touch memory."""
        return self._state is TransferState.CANCELLED and self._is_in_flight

    def copy_block(self) -> bool:
        """Copies one block; returns whether there was one that could be copied."""
        if not self._is_in_flight or not self._link.can_move():
            return False
        local, remote = self._link.local.region, self._link.remote.region
        our_block, their_block = self._blocks.popleft()
        if self._operation is Operation.READ:
            _copy_block(remote, local, their_block, our_block)
        else:
            _copy_block(local, remote, our_block, their_block)
        if not self._blocks:
            self.finish()
        return True

    def finish(self) -> None:
        """Ends it well, unless it was given up before."""
        self._is_settled = True
        self._leave(TransferState.DONE)

    def fail(self, reason: str) -> None:
        """Ends it, and its link, with an error."""
        if self._state is TransferState.PENDING:
            self._reason = reason
        self._leave(TransferState.FAILED)
        self._link.go_down(reason)

    def _progress(self) -> None:
        if self._link.local.network.pace is Pace.PER_POLL:
            self.copy_block()

    def _leave(self, state: TransferState) -> None:
        if self._state is TransferState.PENDING:
            self._state = state
        self._is_in_flight = False
        self._link.forget(self)


class FakeLink:
    """A pair of fake channels; implements `p2p.channel.base.Link`."""

    def __init__(self, peer: str, local: "FakeChannel", remote: "FakeChannel") -> None:
        self.peer = peer
        self.local = local
        self.remote = remote
        self.in_flight: list[FakeTransfer] = []
        self._down = ""

    def read(self, local: BlockIndexes, remote: BlockIndexes) -> FakeTransfer:
        """Submits a copy of the peer's blocks onto ours."""
        return self._submit(Operation.READ, local, remote)

    def write(self, local: BlockIndexes, remote: BlockIndexes) -> FakeTransfer:
        """Submits a copy of our blocks onto the peer's."""
        return self._submit(Operation.WRITE, local, remote)

    def transport(self) -> str:
        """Returns ``memory``."""
        return "memory"

    def close(self) -> None:
        """Ends the link; what is in flight is given up."""
        self.go_down("the link is closed")
        for transfer in tuple(self.in_flight):
            transfer.cancel()

    def is_up(self) -> bool:
        """Returns false once every later transfer would be refused."""
        return not self._down

    def can_move(self) -> bool:
        """Returns whether both ends run."""
        return self.local.health is self.remote.health is Health.RUNNING

    def go_down(self, reason: str) -> None:
        """Refuses every later transfer with a reason; the first one stays."""
        self._down = self._down or reason

    def forget(self, transfer: FakeTransfer) -> None:
        """Notes that a transfer is not in flight any more."""
        self.in_flight = [other for other in self.in_flight if other is not transfer]
        self.local.network.end(transfer)

    def tear_down(self, reason: str) -> None:
        """Ends the link, and everything in flight without another byte."""
        self.go_down(reason)
        for transfer in tuple(self.in_flight):
            transfer.fail(reason)

    def _submit(
        self, operation: Operation, local: BlockIndexes, remote: BlockIndexes
    ) -> FakeTransfer:
        if self._down:
            raise LinkDownError(self.peer, self._down)
        counts = self.local.region.count, self.remote.region.count
        ours, theirs = checked_pair(local, remote, counts)
        blocks = list(zip(ours.tolist(), theirs.tolist(), strict=True))
        transfer = FakeTransfer(self, operation, blocks)
        self.in_flight.append(transfer)
        if blocks:
            self.local.network.start(transfer)
        else:
            transfer.finish()
        return transfer


@dataclass(frozen=True, slots=True)
class FakeDialled:
    """A peer that was running."""

    peer: str
    remote: "FakeChannel"
    transport: str = "memory"
    latency_s: float = 0.0


class FakeChannel:
    """A process's endpoint on a fake network; implements `p2p.channel.base.Channel`.

    Args:
        network: connects it to others.
        name: the process, by which the network's methods know it; a restarted process is a new
            channel under the old name.
        region: memory of this process, mapped for as long as transfers may touch it.
    """

    def __init__(self, network: FakeNetwork, name: str, region: Region) -> None:
        region.check()
        self.network = network
        self.name = name
        self.region = region
        self.health = Health.RUNNING
        self._link_by_peer: dict[str, FakeLink] = {}
        self._retired: list[FakeLink] = []
        self._is_closed = False
        self._offer = ChannelOffer(channel=FAKE, metadata=network.join(self), region=region)

    def links(self) -> list[FakeLink]:
        """Returns the links in use and those that still have something in flight."""
        return [*self._link_by_peer.values(), *self._retired]

    def offer(self) -> ChannelOffer:
        """Returns what a peer needs to connect."""
        return self._offer

    def dial(self, peer: str, offer: ChannelOffer, timeout_s: float) -> FakeDialled:
        """Finds the peer, or finds at once that the time would run out."""
        if self._is_closed:
            raise ClosedError(f"the fake channel of {self.name} is closed")
        check_fit(peer, FAKE, self.region, offer)
        remote = self.network.find(offer.metadata)
        if remote.health is not Health.RUNNING:
            reason = f"no answer in {timeout_s} s: {remote.health.value}"
            raise PeerUnreachableError(peer, reason)
        if offer.region.probe is not None:
            content = ctypes.string_at(offer.region.probe.base, PROBE_BYTES)
            check_probe(peer, offer.region, content)
        return FakeDialled(peer, remote)

    def attach(self, dialled: Dialled) -> FakeLink:
        """Connects to a peer that was running."""
        if self._is_closed:
            raise ClosedError(f"the fake channel of {self.name} is closed")
        if not isinstance(dialled, FakeDialled):
            raise ArgumentError("dialled", type(dialled).__name__, "is of another channel")
        peer = dialled.peer
        if dialled.remote.health is Health.DEAD:
            raise PeerUnreachableError(peer, "it died since")
        if peer in self._link_by_peer:
            self._link_by_peer[peer].close()
            self._retired.append(self._link_by_peer[peer])
        link = FakeLink(peer, self, dialled.remote)
        self._link_by_peer[peer] = link
        return link

    def connect(self, peer: str, offer: ChannelOffer, timeout_s: float) -> FakeLink:
        """Dials and attaches."""
        return self.attach(self.dial(peer, offer, timeout_s))

    def sibling(self) -> "FakeChannel":
        """Returns another channel of the same process over the same region."""
        return FakeChannel(self.network, self.name, self.region)

    def quarantined(self) -> int:
        """Returns how many given-up transfers are in flight, after making progress."""
        given_up = [
            transfer
            for link in self.links()
            for transfer in tuple(link.in_flight)
            if transfer.is_given_up() and not transfer.quiesced()
        ]
        self._retired = [link for link in self._retired if link.in_flight]
        return len(given_up)

    def fence(self, peer: str) -> None:
        """Ends every link to the peer that has given-up transfers in flight."""
        for link in self.links():
            if link.peer == peer and any(t.is_given_up() for t in link.in_flight):
                link.tear_down(f"the link was torn down to fence {peer}")

    def close(self) -> None:
        """Ends all links, and stops being reachable. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        self.network.remove(self, "the channel is closed")


def _copy_block(source: Region, target: Region, source_block: int, target_block: int) -> None:
    """Copies all segments of one block."""
    for there, here in zip(source.segments, target.segments, strict=True):
        ctypes.memmove(
            here.base + target_block * here.stride,
            there.base + source_block * there.stride,
            here.length,
        )
