"""The answering end: a ROUTER in a blocking loop around a service that takes the decisions.

The loop receives, decodes, hands over, and sends what the service returns. What does not decode is
counted, logged (the first of each kind, then at powers of ten) and dropped; where the header was
good, the sender is told.
"""

import logging
from collections import Counter
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

import zmq
from zmq.utils.monitor import recv_monitor_message

from p2p.errors import ProtocolError
from p2p.wire.codec import (
    ONE_WAY,
    BodyDecoder,
    VersionError,
    encode,
    split,
)
from p2p.wire.context import WireContext
from p2p.wire.exchange import Outgoing, Sender
from p2p.wire.messages import PROTOCOL_VERSION, Message, Refusal, RefusalCode
from p2p.wire.wakeup import Wakeup

logger = logging.getLogger(__name__)
Q = TypeVar("Q", bound=Message)
_Q_contra = TypeVar("_Q_contra", bound=Message, contravariant=True)

_FAILED_HANDSHAKES = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_BATCH = 256
_BURST = 32
_LONGEST_WAIT_S = 3600.0
_LINGER_MS = 500


class Service(Protocol[_Q_contra]):
    """Decides what is answered. Called by the responder's thread only."""

    def handle(self, sender: Sender, message: _Q_contra) -> Iterable[Outgoing]:
        """Returns what to send now: the answer, answers to others, or nothing yet."""
        ...

    def tick(self) -> Iterable[Outgoing]:
        """Returns what time alone has made due; called at least every `wait_s`."""
        ...

    def wait_s(self) -> float:
        """Returns how long the loop may sleep if nothing comes in."""
        ...


class Responder(Generic[Q]):
    """Serves one address until stopped.

    Args:
        wire: where the socket comes from.
        address: to bind; port ``*`` takes a free one.
        requests: decoder of what may be asked.
        key: the setting that named the address, for errors.

    Attributes:
        address: what was bound, with the real port.
        dropped: number of dropped messages by kind.
    """

    def __init__(
        self, wire: WireContext, address: str, requests: BodyDecoder[Q], key: str = "bind"
    ) -> None:
        self._socket = wire.router(address, key)
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._monitor = self._socket.get_monitor_socket(_FAILED_HANDSHAKES)
        self._requests = requests
        self._wakeup = Wakeup()
        self._stopping = False
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.dropped: Counter[str] = Counter()

    def serve(self, service: Service[Q]) -> None:
        """Runs the loop until `stop`. Blocks; the calling thread owns the socket from now on."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)
        poller.register(self._wakeup, zmq.POLLIN)
        try:
            while not self._stopping:
                ready = dict(
                    poller.poll(int(min(max(0.0, service.wait_s()), _LONGEST_WAIT_S) * 1000))
                )
                if self._socket in ready:
                    self._answer_all(service)
                if self._monitor in ready:
                    self._count_failed_handshakes()
                if self._wakeup.fileno() in ready:
                    self._wakeup.clear()
                for outgoing in service.tick():
                    self._send(outgoing)
        finally:
            self.close()

    def stop(self) -> None:
        """Makes `serve` return soon. Any thread or signal handler; nothing after the end."""
        self._stopping = True
        self.wake()

    def wake(self) -> None:
        """Makes the loop call the service's `tick` now. May be called from any thread."""
        self._wakeup.ring()

    def _answer_all(self, service: Service[Q]) -> None:
        """Answers what is there, in bursts: waking ZMQ's thread for each answer costs both."""
        receive, decode, handle = self._socket.recv, self._decode, service.handle
        burst: list[Outgoing] = []
        for _ in range(_BATCH):  # then time gets its turn
            try:
                route = receive(zmq.NOBLOCK)
            except zmq.Again:
                break
            frame = receive()  # a ROUTER's messages are there as a whole, behind their route
            if self._socket.get(zmq.RCVMORE):
                self._drop_rest()
                continue
            request = decode(route, frame)
            if request is None:
                continue
            if burst and request[0].request_id == ONE_WAY:
                self._send_all(burst)  # nobody waits for what comes now
                burst = []
            burst.extend(handle(*request))
            if len(burst) >= _BURST:
                self._send_all(burst)
                burst = []
        self._send_all(burst)

    def _send_all(self, burst: list[Outgoing]) -> None:
        for outgoing in burst:
            self._send(outgoing)

    def _drop_rest(self) -> None:
        num_frames = 1
        while self._socket.get(zmq.RCVMORE):
            self._socket.recv()
            num_frames += 1
        self._count("frames", f"{num_frames} frames, not 1")

    def _decode(self, route: bytes, frame: bytes) -> tuple[Sender, Q] | None:
        try:
            request_id, body = split(frame)
            sender = Sender(route, request_id)
        except VersionError as error:
            self._count("version", error)
            theirs = str(error.version)
            refusal = Refusal(
                code=RefusalCode.VERSION, field="version", ours=str(PROTOCOL_VERSION), theirs=theirs
            )
            self._send(Outgoing(Sender(route, error.request_id), refusal))
            return None
        except ProtocolError as error:
            self._count("frames", error)
            return None
        try:
            return sender, self._requests.decode(body)
        except ProtocolError as error:
            self._count("body", error)
            refusal = Refusal(code=RefusalCode.MALFORMED, field="body", ours=str(error)[:400])
            self._send(Outgoing(sender, refusal))
            return None

    def _send(self, outgoing: Outgoing) -> None:
        if outgoing.to.request_id == ONE_WAY:
            return
        try:
            frame = encode(outgoing.message, outgoing.to.request_id)
            self._socket.send(outgoing.to.route, zmq.NOBLOCK | zmq.SNDMORE)
            self._socket.send(frame, zmq.NOBLOCK)
        except zmq.ZMQError as error:  # the asker is gone or takes nothing: it will ask again
            self._count("unsent", error)
        except ProtocolError as error:
            self._count("too_large", error)

    def _count_failed_handshakes(self) -> None:
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)
            self._count("handshake", f"event {event['event']:#x}, error {event['value']}")

    def _count(self, kind: str, reason: object) -> None:
        self.dropped[kind] += 1
        number = self.dropped[kind]
        if number in {1, 10, 100} or number % 1000 == 0:
            logger.warning(
                "%s: dropped message number %d (%s): %s", self.address, number, kind, reason
            )

    def close(self) -> None:
        """Closes the socket; `serve` does so by itself when it ends. Last answers still go out."""
        self._socket.disable_monitor()
        self._socket.close(_LINGER_MS)
        self._wakeup.close()
