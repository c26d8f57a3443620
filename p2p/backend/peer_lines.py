"""The sockets to holders. No decisions."""

import logging
from dataclasses import dataclass, field

import zmq

from p2p.backend.actions import AskPeer, TellPeer
from p2p.errors import ConfigError, PeerUnreachableError, ProtocolError
from p2p.wire.codec import ONE_WAY
from p2p.wire.contact_watch import Contact, ContactWatch
from p2p.wire.context import WireContext
from p2p.wire.decoders import PEER_REPLIES
from p2p.wire.messages import Holder, Message, PeerReply
from p2p.wire.requester import Answer, Requester

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Line:
    """Socket to one holder at one of its starts.

    Attributes:
        watch: tells how the first contact goes, until that is over.
    """

    holder: Holder
    requester: Requester[PeerReply]
    watch: ContactWatch | None = None


@dataclass(slots=True)
class PeerLines:
    """All sockets to holders.

    Args:
        wire: makes sockets.
        poller: of the engine's loop; sockets come and go in it.
    """

    wire: WireContext
    poller: zmq.Poller
    _lines: dict[str, _Line] = field(default_factory=dict)

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
                self._end_watch(line)
        return answers

    def contacts(self, ready: dict[object, int]) -> list[tuple[Holder, Contact]]:
        """Returns how first contacts go on."""
        found: list[tuple[Holder, Contact]] = []
        for line in self._lines.values():
            if line.watch is not None and line.watch.socket in ready:
                contacts = line.watch.take()
                found.extend((line.holder, contact) for contact in contacts)
                if Contact.REFUSED in contacts:
                    self._end_watch(line)
        return found

    def drop(self, instance: str) -> None:
        """Closes the socket to a holder."""
        line = self._lines.pop(instance, None)
        if line is None:
            return
        self._end_watch(line)
        self.poller.unregister(line.requester.socket)
        line.requester.close()

    def close(self) -> None:
        """Closes everything."""
        for instance in list(self._lines):
            self.drop(instance)

    def _send(self, holder: Holder, message: Message, request_id: int) -> None:
        try:
            line = self._line(holder)
            if line is not None:
                line.requester.send(message, request_id)
        except (PeerUnreachableError, ConfigError, ProtocolError) as error:
            logger.warning("nothing sent to %s: %s", holder.instance, error)

    def _line(self, holder: Holder) -> _Line | None:
        """Returns the line to a holder; None if the message is for an earlier start of it."""
        line = self._lines.get(holder.instance)
        if line is not None:
            if _is_same_start(line.holder, holder):
                return line
            if holder.incarnation < line.holder.incarnation:
                return None
        self.drop(holder.instance)
        watches: list[ContactWatch] = []
        requester = Requester(
            self.wire,
            holder.address,
            PEER_REPLIES,
            holder.public_key,
            before=lambda socket: watches.append(ContactWatch(socket)),
        )
        line = _Line(holder, requester, watches[0])
        self._lines[holder.instance] = line
        self.poller.register(requester.socket, zmq.POLLIN)
        self.poller.register(watches[0].socket, zmq.POLLIN)
        return line

    def _end_watch(self, line: _Line) -> None:
        """The first contact is over: somebody has answered, or nobody will."""
        if line.watch is not None:
            self.poller.unregister(line.watch.socket)
            line.watch.close()
            line.watch = None


def _is_same_start(ours: Holder, named: Holder) -> bool:
    same = ours.incarnation == named.incarnation and ours.address == named.address
    return same and ours.public_key == named.public_key
