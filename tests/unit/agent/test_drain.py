import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from p2p.agent import drain
from p2p.agent.drain import Drain


def pair() -> tuple[socket.socket, socket.socket]:
    """Returns the two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    return near, far


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 5
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.fixture
def elsewhere():
    """The far end of a connection, as if it were in another process."""
    near, far = pair()
    yield near, far
    near.close()
    far.close()


def test_what_arrives_for_a_closed_connection_is_thrown_away(elsewhere):
    near, far = elsewhere
    taker = Drain()
    with taker.taking_over(["peer"]):
        near.close()
    far.settimeout(5)
    far.sendall(bytes(8 << 20))
    wait_until(lambda: taker.num_bytes == 8 << 20)
    assert len(taker) == 1
    far.close()
    wait_until(lambda: len(taker) == 0)


def test_other_connections_are_left_alone(elsewhere):
    near, far = elsewhere
    other, far_other = pair()
    taker = Drain()
    with taker.taking_over(["peer"]):
        near.close()
    far_other.sendall(b"for us")
    assert other.recv(16) == b"for us"
    other.close()
    assert far_other.recv(16) == b""
    assert len(taker) == 1
    far.close()
    far_other.close()


def test_a_connection_to_ourselves_is_not_kept():
    near, far = pair()
    taker = Drain()
    with taker.taking_over(["peer"]):
        near.close()
        far.close()
    assert len(taker) == 0


def test_with_nobody_to_wait_for_nothing_is_kept(elsewhere):
    near, far = elsewhere
    taker = Drain()
    with taker.taking_over([]):
        near.close()
    assert far.recv(16) == b""
    assert len(taker) == 0


def test_a_connection_is_closed_once_its_peers_answered_and_it_is_quiet(elsewhere, monkeypatch):
    monkeypatch.setattr(drain, "_QUIET_S", 0.2)
    near, far = elsewhere
    taker = Drain()
    with taker.taking_over(["a", "b"]):
        near.close()
    taker.settle("a")
    time.sleep(1.0)
    assert len(taker) == 1
    taker.settle("b")
    wait_until(lambda: len(taker) == 0)
    assert far.recv(16) == b""


def test_the_answer_of_one_peer_does_not_prolong_the_wait_for_others(elsewhere, monkeypatch):
    monkeypatch.setattr(drain, "_QUIET_S", 0.2)
    monkeypatch.setattr(drain, "_LOOK_S", 0.05)
    near, _ = elsewhere
    taker = Drain()
    with taker.taking_over(["peer"]):
        near.close()
    taker.settle("peer")
    deadline_s = time.monotonic() + 5
    while len(taker):
        assert time.monotonic() < deadline_s
        taker.settle("another")
        time.sleep(0.01)


def test_a_port_is_taken_by_nobody_while_connections_of_its_agent_are_open(elsewhere):
    near, far = elsewhere
    taker = Drain()
    server = socket.create_server(("127.0.0.1", 0))
    address = server.getsockname()
    with taker.taking_over(["peer"]):
        near.close()
        server.close()
    with pytest.raises(OSError, match="in use"):
        socket.create_server(address)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    far.close()
    wait_until(lambda: len(taker) == 0)
    socket.create_server(address).close()


def test_a_port_that_lives_on_is_left_alone(elsewhere):
    near, far = elsewhere
    taker = Drain()
    with socket.create_server(("127.0.0.1", 0)) as server:
        with taker.taking_over(["peer"]):
            near.close()
        address = server.getsockname()
        socket.create_connection(address).close()
    assert len(taker) == 1
    socket.create_server(address).close()
    far.close()


def test_there_is_a_limit_to_what_is_kept(elsewhere, monkeypatch):
    monkeypatch.setattr(drain, "_MAX_SOCKETS", 1)
    near, far = elsewhere
    second, far_second = pair()
    taker = Drain()
    with taker.taking_over(["peer"]):
        near.close()
    with taker.taking_over(["peer"]):
        second.close()
    assert far.recv(16) == b""
    assert len(taker) == 1
    far_second.close()


def test_agents_that_are_torn_down_at_once_leave_a_third_ones_connection_alone(elsewhere):
    """The second one looks while the first has hold of everything; it ends last."""
    near, far = elsewhere
    live, far_live = pair()
    taker = Drain()
    with contextlib.ExitStack() as later:
        with taker.taking_over(["peer"]):
            later.enter_context(taker.taking_over(["peer"]))
            near.close()
    assert len(taker) == 1
    far_live.sendall(b"for us")
    time.sleep(0.1)  # a thread that drained it would have it by now
    live.setblocking(False)
    assert live.recv(16) == b"for us"
    far.close()
    wait_until(lambda: len(taker) == 0)
    live.close()
    far_live.close()


def test_a_connection_that_another_descriptor_holds_is_alive(elsewhere):
    near, far = elsewhere
    taker = Drain()
    copy = near.dup()
    with taker.taking_over(["peer"]):
        near.close()
    assert len(taker) == 0
    far.sendall(b"for us")
    assert copy.recv(16) == b"for us"
    copy.close()


def test_a_number_that_belongs_to_a_file_by_now_leaves_no_descriptor_behind(monkeypatch, tmp_path):
    ours = Drain()
    with (tmp_path / "file").open("w") as file:
        monkeypatch.setattr(drain, "_inode", lambda fd: 1 if fd == file.fileno() else None)
        before = _num_open()
        with ours.taking_over({"b"}):
            assert _num_open() == before


def _num_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
