"""The asking end: a DEALER with request ids and deadlines. One thread at a time uses it."""

import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import zmq

from p2p.errors import PeerUnreachableError, ProtocolError
from p2p.wire.codec import BodyDecoder, RequestId, encode, split
from p2p.wire.context import WireContext
from p2p.wire.messages import Message

logger = logging.getLogger(__name__)
R = TypeVar("R", bound=Message)


@dataclass(frozen=True, slots=True)
class Answer(Generic[R]):
    """What came back for a request."""

    request_id: RequestId
    message: R


class Requester(Generic[R]):
    """Sends requests to one address and collects the answers.

    Args:
        wire: where the socket comes from.
        address: of the answering end.
        replies: decoder of what it may answer.
        server_key: its public key, where CURVE is on; empty for the controller's.
        before: called with the socket before it connects.
    """

    def __init__(
        self,
        wire: WireContext,
        address: str,
        replies: BodyDecoder[R],
        server_key: str = "",
        before: Callable[[zmq.Socket[bytes]], None] | None = None,
    ) -> None:
        self.address = address
        self.socket = wire.dealer(address, server_key, before)
        self.num_dropped = 0
        self._replies = replies
        self._ids = itertools.count(1)

    def next_id(self) -> RequestId:
        """Returns a request id that this requester has not used before."""
        return RequestId(next(self._ids))

    def send(self, message: Message, request_id: int) -> None:
        """Hands a request to the socket's queue; never blocks.

        Raises:
            PeerUnreachableError: the queue is full since nobody has taken from it for long.
        """
        try:
            self.socket.send(encode(message, request_id), zmq.NOBLOCK)
        except zmq.Again as error:
            raise PeerUnreachableError(self.address, "send queue is full") from error

    def receive(self) -> list[Answer[R]]:
        """Returns every answer that is there, without waiting; drops what is no answer."""
        answers: list[Answer[R]] = []
        while int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            answer = self._decode(self.socket.recv(zmq.NOBLOCK))
            if answer is not None:
                answers.append(answer)
        return answers

    def request(self, message: Message, timeout_s: float) -> R:
        """Sends one request and waits for its answer. For tools and tests; do not mix with `send`.

        Raises:
            PeerUnreachableError: no answer within ``timeout_s``.
        """
        request_id = self.next_id()
        self.send(message, request_id)
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            if not self.socket.poll(int(left_s * 1000) + 1):
                break
            for answer in self.receive():
                if answer.request_id == request_id:
                    return answer.message
        name = type(message).__name__
        raise PeerUnreachableError(self.address, f"no answer to {name} within {timeout_s:g} s")

    def close(self, linger_s: float = 0.0) -> None:
        """Closes the socket; what is still queued after ``linger_s`` is dropped."""
        self.socket.close(int(linger_s * 1000))

    def _decode(self, frame: bytes) -> Answer[R] | None:
        try:
            request_id, body = split(frame)
            return Answer(request_id, self._replies.decode(body))
        except ProtocolError as error:
            self.num_dropped += 1
            if self.num_dropped == 1:
                logger.warning("dropped an answer of %s: %s", self.address, error)
            return None
