"""The asking end for an asyncio loop: one DEALER, any number of requests under way."""

import asyncio
from typing import Generic, TypeVar

from p2p.errors import PeerUnreachableError
from p2p.wire.codec import BodyDecoder
from p2p.wire.context import WireContext
from p2p.wire.messages import Message
from p2p.wire.requester import Requester

R = TypeVar("R", bound=Message)


class Line(Generic[R]):
    """A connection to one address. Made and used in one loop's thread.

    Args:
        wire: where the socket comes from.
        address: of the answering end.
        replies: decoder of what it may answer.
        server_key: its public key, where CURVE is on; empty for the controller's.
    """

    def __init__(
        self, wire: WireContext, address: str, replies: BodyDecoder[R], server_key: str = ""
    ) -> None:
        self._requester = Requester(wire, address, replies, server_key)
        self._waiting: dict[int, asyncio.Future[R]] = {}
        self._loop = asyncio.get_running_loop()
        self._fd = int(self._requester.socket.fileno())
        self._loop.add_reader(self._fd, self._collect)

    async def ask(self, message: Message, timeout_s: float) -> R:
        """Returns the answer, whatever it is.

        Raises:
            PeerUnreachableError: none came in time.
            ProtocolError: the message is too large to be sent.
        """
        request_id = self._requester.next_id()
        future: asyncio.Future[R] = self._loop.create_future()
        self._waiting[request_id] = future
        try:
            self._requester.send(message, request_id)
            self._collect()  # ZMQ's descriptor tells of a change once; sending may have taken that
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError as error:
            reason = f"no answer to {type(message).__name__} within {timeout_s:g} s"
            raise PeerUnreachableError(self._requester.address, reason) from error
        finally:
            del self._waiting[request_id]

    def close(self) -> None:
        """Closes the connection."""
        self._loop.remove_reader(self._fd)
        self._requester.close()

    def _collect(self) -> None:
        for answer in self._requester.receive():
            future = self._waiting.get(answer.request_id)
            if future is not None and not future.done():
                future.set_result(answer.message)
