"""The answering end over real sockets: in what order it works and answers."""

import threading
from collections.abc import Iterable, Iterator

import pytest

from p2p.wire.codec import ONE_WAY
from p2p.wire.context import WireContext
from p2p.wire.decoders import PEER_REPLIES, PEER_REQUESTS
from p2p.wire.exchange import Outgoing, Sender
from p2p.wire.messages import Done, LeaseRelease, ListLeases, PeerRequest
from p2p.wire.requester import Requester
from p2p.wire.responder import Responder

pytestmark = pytest.mark.contract
WAIT_S = 5.0
RELEASE = LeaseRelease(instance="p", incarnation=3, token=1)


class Busy:
    """Is at work with its first request until it is let go, and with a release until it is too."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.may_begin = threading.Event()
        self.may_release = threading.Event()
        self.was_released = False
        self.num_handled = 0

    def handle(self, sender: Sender, message: PeerRequest) -> Iterable[Outgoing]:
        self.num_handled += 1
        if self.num_handled == 1:
            self.has_begun.set()
            assert self.may_begin.wait(WAIT_S)
        if isinstance(message, LeaseRelease):
            self.was_released = self.may_release.wait(WAIT_S)
        return [Outgoing(sender, Done())]

    def tick(self) -> Iterable[Outgoing]:
        return []

    def wait_s(self) -> float:
        return 1.0


@pytest.fixture
def served() -> Iterator[tuple[Busy, Requester]]:  # type: ignore[type-arg]
    wire = WireContext()
    responder = Responder(wire, "tcp://127.0.0.1:*", PEER_REQUESTS)
    service = Busy()
    thread = threading.Thread(target=responder.serve, args=(service,))
    thread.start()
    requester = Requester(wire, responder.address, PEER_REPLIES)
    yield service, requester
    service.may_begin.set()
    service.may_release.set()
    responder.stop()
    thread.join()
    requester.close()
    wire.close()


def ids(requester: Requester, count: int) -> set[int]:  # type: ignore[type-arg]
    """Returns the ids of the answers that come, at least so many."""
    found: set[int] = set()
    while len(found) < count:
        assert requester.socket.poll(int(WAIT_S * 1000)), f"only {found} were answered"
        found |= {answer.request_id for answer in requester.receive()}
    return found


def test_what_somebody_waits_for_is_answered_before_what_nobody_waits_for_is_begun(served):
    service, requester = served
    requester.send(ListLeases(), 1)
    assert service.has_begun.wait(WAIT_S)
    requester.send(ListLeases(), 2)
    requester.send(RELEASE, ONE_WAY)  # all three are taken in one go
    service.may_begin.set()
    assert ids(requester, 2) == {1, 2}
    assert not service.was_released
    service.may_release.set()


def test_the_order_of_requests_is_kept(served):
    service, requester = served
    service.may_begin.set()
    service.may_release.set()
    requester.send(RELEASE, ONE_WAY)
    requester.send(ListLeases(), 1)
    assert ids(requester, 1) == {1}
    assert service.was_released
