"""What sockets to holders tell of a first contact, with real sockets and processes."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import zmq

from p2p.backend.actions import AskPeer, Tag
from p2p.backend.peer_lines import PeerLines
from p2p.wire.contact_watch import Contact, ContactWatch
from p2p.wire.context import WireContext
from p2p.wire.messages import Holder
from tests.unit.backend.builders import hello

pytestmark = pytest.mark.contract
_ROUTER = """
import time, zmq
router = zmq.Context().socket(zmq.ROUTER)
print(router.bind_to_random_port("tcp://127.0.0.1"), flush=True)
time.sleep(60)
"""


@pytest.fixture
def poller() -> zmq.Poller:
    return zmq.Poller()


@pytest.fixture
def wire() -> Iterator[WireContext]:
    context = WireContext()
    yield context
    context.close()


@pytest.fixture
def lines(wire: WireContext, poller: zmq.Poller) -> Iterator[PeerLines]:
    made = PeerLines(wire, poller)
    yield made
    made.close()


@pytest.fixture
def router() -> Iterator[tuple[subprocess.Popen[str], Holder]]:
    """A process that listens and never answers, and how it is called."""
    with subprocess.Popen([sys.executable, "-c", _ROUTER], stdout=subprocess.PIPE, text=True) as it:
        assert it.stdout is not None
        yield it, holder_at(int(it.stdout.readline()))
        it.kill()


def holder_at(port: int) -> Holder:
    return Holder(instance="a", incarnation=1, address=f"tcp://127.0.0.1:{port}")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def heard(lines: PeerLines, poller: zmq.Poller, seconds: float = 2.0) -> list[Contact]:
    """Returns what is heard first."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        contacts = lines.contacts(dict(poller.poll(10)))
        if contacts:
            return [contact for _, contact in contacts]
    return []


def test_a_process_that_runs_is_reached_though_it_answers_nothing(lines, poller, router):
    _, holder = router
    lines.ask(AskPeer(Tag(1), holder, hello()))
    assert heard(lines, poller) == [Contact.REACHED]


def test_a_process_that_stands_still_is_not_reached(lines, poller, router):
    process, holder = router
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.05)  # until all of its threads stand still
    lines.ask(AskPeer(Tag(1), holder, hello()))
    assert heard(lines, poller, 0.3) == []
    process.send_signal(signal.SIGCONT)
    assert heard(lines, poller) == [Contact.REACHED]


def test_an_address_where_nobody_listens_refuses_within_a_moment(lines, poller):
    began_s = time.monotonic()
    lines.ask(AskPeer(Tag(1), holder_at(free_port()), hello()))
    assert heard(lines, poller) == [Contact.REFUSED]
    assert time.monotonic() < began_s + 0.5


def test_a_refusal_is_told_once(lines, poller):
    lines.ask(AskPeer(Tag(1), holder_at(free_port()), hello()))
    assert heard(lines, poller) == [Contact.REFUSED]
    assert heard(lines, poller, 0.3) == []
    assert len(poller.sockets) == 1, "it is still watched"


def test_a_process_that_dies_before_it_answers_is_told(lines, poller, router):
    process, holder = router
    lines.ask(AskPeer(Tag(1), holder, hello()))
    assert heard(lines, poller) == [Contact.REACHED]
    process.kill()
    assert heard(lines, poller) == [Contact.REFUSED]


def test_nothing_is_watched_after_the_socket_is_gone(lines, poller, router):
    _, holder = router
    lines.ask(AskPeer(Tag(1), holder, hello()))
    lines.drop("a")
    assert poller.sockets == []


def test_a_watch_that_nobody_looks_at_holds_up_no_socket(wire):
    """ZMQ's thread waits for whoever does not take what it reports, unless that has no limit."""
    socket_ = wire._context.socket(zmq.DEALER)
    socket_.setsockopt(zmq.LINGER, 0)
    socket_.setsockopt(zmq.RECONNECT_IVL, 1)
    watch = ContactWatch(socket_)
    socket_.connect(f"tcp://127.0.0.1:{free_port()}")
    time.sleep(3.5)
    router = wire.router("tcp://127.0.0.1:*")
    dealer = wire.dealer(router.getsockopt_string(zmq.LAST_ENDPOINT))
    dealer.send(b"x")
    assert router.poll(1000)
    assert len(watch.take()) > 2000, "too few to tell"
    watch.close()
    for made in (socket_, router, dealer):
        made.close(0)
