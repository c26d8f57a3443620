"""Requests and answers over simulated connections, as the bytes that travel.

Both ends pass through the production codec, so what is not on the wire does not arrive.
"""

from collections.abc import Callable, Iterable
from functools import partial

from p2p.wire.codec import ONE_WAY, RequestId, encode, split
from p2p.wire.exchange import Outgoing, Sender
from p2p.wire.messages import Message
from tests.sim.network import Network
from tests.sim.process import Process


class Server(Process):
    """A process with an answering end (a ROUTER)."""

    def __init__(self, network: Network, name: str) -> None:
        super().__init__(network.clock, name)
        self.network = network
        self._askers: dict[bytes, Asker] = {}

    def start(self) -> None:
        """Starts with nothing of the last life."""
        raise NotImplementedError

    def receive(self, asker: "Asker", frame: bytes) -> None:
        """A request arrived at this machine."""
        self._askers[asker.route] = asker
        request_id, body = split(frame)
        sender = Sender(asker.route, request_id)
        self.run("peers", partial(self._answer, sender, bytes(body)))

    def answer(self, sender: Sender, body: bytes) -> Iterable[Outgoing]:
        """Returns what is to be sent for a request."""
        raise NotImplementedError

    def send_all(self, answers: Iterable[Outgoing]) -> None:
        """Sends answers on their way."""
        for outgoing in answers:
            asker = self._askers.get(outgoing.to.route)
            if asker is not None and outgoing.to.request_id != ONE_WAY:
                asker.answered(outgoing.to.request_id, outgoing.message)

    def _answer(self, sender: Sender, body: bytes) -> None:
        self.send_all(self.answer(sender, body))


class Asker:
    """A DEALER: ids go out with requests and come back with answers.

    Args:
        network: between the two.
        client: whose thread takes the answers.
        server: whom it asks.
        thread: of the client.
        on_answer: takes request id and body.
    """

    def __init__(
        self,
        network: Network,
        client: Process,
        server: Server,
        thread: str,
        on_answer: Callable[[int, bytes], None],
    ) -> None:
        self.connection = network.connect(client, server)
        self.route = network.new_route()
        self._network = network
        self._server = server
        self._thread = thread
        self._on_answer = on_answer

    def send(self, message: Message, request_id: int) -> None:
        """Sends a request."""
        deliver = partial(self._server.receive, self, encode(message, request_id))
        self._network.send(self.connection, self._server, type(message).__name__, deliver)

    def answered(self, request_id: int, message: Message) -> None:
        """The server sends an answer back."""
        deliver = partial(self._arrive, encode(message, request_id))
        self._network.send(self.connection, self.connection.client, type(message).__name__, deliver)

    def close(self) -> None:
        """Nothing comes in any more."""
        self.connection.is_open = False

    def _arrive(self, frame: bytes) -> None:
        request_id, body = split(frame)
        work = partial(self._take, request_id, bytes(body))
        self.connection.client.run(self._thread, work)

    def _take(self, request_id: RequestId, body: bytes) -> None:
        if self.connection.is_open:
            self._on_answer(request_id, body)
