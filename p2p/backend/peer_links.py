"""The sockets and links to holders, and the reads under way on them. No decisions."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import zmq

from p2p.backend.actions import AskPeer, OpenLink, Read, ReadId, TellPeer
from p2p.channel.base import Channel, Link, Transfer, TransferState
from p2p.errors import ArgumentError, ConfigError, PeerError, PeerUnreachableError, ProtocolError
from p2p.wire.codec import ONE_WAY
from p2p.wire.context import WireContext
from p2p.wire.decoders import PEER_REPLIES
from p2p.wire.messages import ChannelOffer, Holder, Message, PeerReply, Welcome
from p2p.wire.requester import Answer, Requester

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Line:
    """Socket and link to one holder at one of its starts."""

    holder: Holder
    requester: Requester[PeerReply]
    link: Link | None = None


@dataclass(frozen=True, slots=True)
class ReadEnd:
    """How a read ended.

    Attributes:
        problem: empty if all bytes are there.
        is_quiet: it can no longer touch memory.
    """

    read_id: ReadId
    problem: str
    is_quiet: bool


@dataclass(slots=True)
class _GivenUp:
    transfer: Transfer
    instance: str
    since_s: float


@dataclass(slots=True)
class PeerLinks:
    """All lines to holders.

    Args:
        wire: makes sockets.
        channel: makes links.
        poller: of the engine's loop; sockets come and go in it.
        clock: in seconds.
        quarantine_s: a given-up read that has not quiesced by then is fenced.
        connect_timeout_s: for a link.
    """

    wire: WireContext
    channel: Channel
    poller: zmq.Poller
    clock: Callable[[], float]
    quarantine_s: float
    connect_timeout_s: float = 1.0
    _lines: dict[str, _Line] = field(default_factory=dict)
    _reads: dict[ReadId, Transfer] = field(default_factory=dict)
    _instances: dict[ReadId, str] = field(default_factory=dict)
    _given_up: dict[ReadId, _GivenUp] = field(default_factory=dict)

    @property
    def num_reads(self) -> int:
        """Reads under way."""
        return len(self._reads)

    @property
    def num_given_up(self) -> int:
        """Reads that were given up and have not quiesced."""
        return len(self._given_up)

    def ask(self, action: AskPeer) -> None:
        """Sends a request; silence is the core's business."""
        self._send(action.holder, action.message, action.tag)

    def tell(self, action: TellPeer) -> None:
        """Sends a message that nobody answers."""
        self._send(action.holder, action.message, ONE_WAY)

    def receive(self, ready: dict[object, int]) -> list[Answer[PeerReply]]:
        """Returns what came in on the sockets that are ready."""
        answers: list[Answer[PeerReply]] = []
        for line in list(self._lines.values()):
            if line.requester.socket in ready:
                answers.extend(line.requester.receive())
        return answers

    def open_link(self, action: OpenLink) -> str | None:
        """Connects the channel; returns what was wrong, or None."""
        instance = action.holder.instance
        line = self._lines.get(instance)
        offer = self._matching_offer(action.welcome)
        if line is None or offer is None:
            return f"offers no channel that we speak ({self.channel.offer().channel})"
        try:
            line.link = self.channel.connect(instance, offer, self.connect_timeout_s)
        except (PeerError, ProtocolError, ArgumentError) as error:
            logger.warning("no link to %s: %s", instance, error)
            return str(error)
        return None

    def submit(self, action: Read) -> ReadEnd | None:
        """Starts a read; returns its end if that is known already."""
        line = self._lines.get(action.instance)
        if line is None or line.link is None:
            return ReadEnd(action.read_id, "no link", is_quiet=True)
        try:
            transfer = line.link.read(action.local, action.remote)
        except (PeerError, ArgumentError) as error:
            return ReadEnd(action.read_id, str(error), is_quiet=True)
        self._reads[action.read_id] = transfer
        self._instances[action.read_id] = action.instance
        return self._look(action.read_id, transfer)

    def poll_reads(self) -> list[ReadEnd]:
        """Returns the reads that ended since the last call."""
        ends = [self._look(read_id, transfer) for read_id, transfer in list(self._reads.items())]
        return [end for end in ends if end is not None]

    def cancel(self, read_id: ReadId) -> None:
        """Gives a read up."""
        transfer = self._reads.pop(read_id, None)
        if transfer is not None:
            transfer.cancel()
            self._keep(read_id, transfer)

    def poll_given_up(self) -> list[ReadId]:
        """Returns given-up reads that have quiesced, fencing those that take too long."""
        if not self._given_up:
            return []
        self.channel.quarantined()
        now_s = self.clock()
        late = {
            g.instance for g in self._given_up.values() if now_s > g.since_s + self.quarantine_s
        }
        for instance in late:
            logger.warning("%s: a given-up read did not quiesce, fencing", instance)
            self.channel.fence(instance)
        quiet = [id_ for id_, given_up in self._given_up.items() if given_up.transfer.quiesced()]
        for read_id in quiet:
            del self._given_up[read_id]
        return quiet

    def transport(self, instance: str) -> str:
        """Returns what really moves bytes from a holder."""
        line = self._lines.get(instance)
        return line.link.transport() if line is not None and line.link is not None else "unknown"

    def drop(self, instance: str) -> None:
        """Closes socket and link to a holder."""
        line = self._lines.pop(instance, None)
        if line is None:
            return
        self.poller.unregister(line.requester.socket)
        line.requester.close()
        if line.link is not None:
            line.link.close()

    def close(self) -> None:
        """Closes everything."""
        for instance in list(self._lines):
            self.drop(instance)

    def _send(self, holder: Holder, message: Message, request_id: int) -> None:
        try:
            self._line(holder).requester.send(message, request_id)
        except (PeerUnreachableError, ConfigError, ProtocolError) as error:
            logger.warning("nothing sent to %s: %s", holder.instance, error)

    def _line(self, holder: Holder) -> _Line:
        line = self._lines.get(holder.instance)
        if line is not None and _is_same_start(line.holder, holder):
            return line
        self.drop(holder.instance)
        requester = Requester(self.wire, holder.address, PEER_REPLIES, holder.public_key)
        line = _Line(holder, requester)
        self._lines[holder.instance] = line
        self.poller.register(requester.socket, zmq.POLLIN)
        return line

    def _matching_offer(self, welcome: Welcome) -> ChannelOffer | None:
        name = self.channel.offer().channel
        offers = [offer for offer in welcome.ranks[0].channels if offer.channel == name]
        return offers[0] if offers else None

    def _look(self, read_id: ReadId, transfer: Transfer) -> ReadEnd | None:
        state = transfer.poll()
        if state is TransferState.PENDING:
            return None
        del self._reads[read_id]
        if state is TransferState.DONE:
            del self._instances[read_id]
            return ReadEnd(read_id, "", is_quiet=True)
        is_quiet = transfer.quiesced()
        if not is_quiet:
            self._keep(read_id, transfer)
        return ReadEnd(read_id, transfer.error() or state.value, is_quiet)

    def _keep(self, read_id: ReadId, transfer: Transfer) -> None:
        instance = self._instances.pop(read_id, "")
        self._given_up[read_id] = _GivenUp(transfer, instance, self.clock())


def _is_same_start(ours: Holder, named: Holder) -> bool:
    same = ours.incarnation == named.incarnation and ours.address == named.address
    return same and ours.public_key == named.public_key
