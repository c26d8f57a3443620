"""The toolkit itself: hosts reach each other, cuts lose frames, limits bound what is sent."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.net import namespaces
from tests.net.namespaces import Host, Network

pytestmark = [pytest.mark.fault, pytest.mark.slow]

_PORT = 7000
_SERVE = f"""
import socket
server = socket.create_server(("", {_PORT}))
print("ready", flush=True)
while True:
    link, _ = server.accept()
    link.sendall(b"hello")
    size = int(link.recv(16) or b"0")
    try:
        link.sendall(bytes(size))
    except OSError:
        pass
    link.close()
"""
_GREET = f"""
import socket, sys
link = socket.create_connection((sys.argv[1], {_PORT}), timeout=float(sys.argv[2]))
sys.exit(link.recv(5) != b"hello")
"""
_SHORT_S = "0.4"
_LONG_S = "5"


@pytest.fixture
def network() -> Iterator[Network]:
    reason = namespaces.is_supported()
    if reason:
        pytest.skip(reason)
    with Network() as made:
        yield made


def serving(host: Host) -> Host:
    process = host.popen([sys.executable, "-c", _SERVE], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return host


def greets(client: Host, server: Host, timeout_s: str) -> bool:
    """True if a client connects and hears a greeting within the time."""
    command = [sys.executable, "-c", _GREET, server.address, timeout_s]
    return client.popen(command, stderr=subprocess.DEVNULL).wait(20) == 0


def rate_mbit(host: Host, num_bytes: int) -> float:
    """Returns at which rate a host sends to us."""
    with socket.create_connection((host.address, _PORT), timeout=20) as link:
        assert link.recv(5) == b"hello"
        link.sendall(str(num_bytes).encode())
        start_s, got = time.monotonic(), 0
        while got < num_bytes:
            got += len(link.recv(1 << 20))
        return got * 8 / 1e6 / (time.monotonic() - start_s)


@pytest.mark.parametrize("kind", ["cut", "cut_in", "cut_out"])
def test_a_cut_link_loses_what_is_sent_until_it_heals(network, kind):
    server, client = serving(network.add("server")), network.add("client")
    assert greets(client, server, _LONG_S)
    getattr(server, kind)()
    assert not greets(client, server, _SHORT_S)
    server.heal()
    assert greets(client, server, _LONG_S)


def test_a_cut_host_leaves_the_others_alone(network):
    server, client, cut = (network.add(name) for name in ("server", "client", "cut"))
    serving(server)
    cut.cut_out()
    assert greets(client, server, _LONG_S)
    assert not greets(cut, server, _SHORT_S)


def test_a_limit_bounds_what_a_host_sends_and_can_change(network):
    assert network.gateway  # where we, the client, are
    server = serving(network.add("server", rate_mbit=100))
    assert 80 < rate_mbit(server, 4_000_000) < 115
    server.limit(400)
    assert 300 < rate_mbit(server, 12_000_000) < 460
    server.unlimit()
    assert rate_mbit(server, 40_000_000) > 500


def left_of(network: Network) -> list[str]:
    """Returns the lines in which the machine still names a network."""
    lines = []
    for command in (["link"], ["netns"]):
        listed = subprocess.run(["ip", "-o", *command], capture_output=True, text=True, check=True)  # noqa: S607
        lines += [line for line in listed.stdout.splitlines() if network.tag in line]
    return lines


def test_nothing_is_left_after_a_failure(network):
    other = Network()
    processes = []

    def fail_inside() -> None:
        with other:
            processes.append(other.add("a").popen(["sleep", "60"]))
            assert len(left_of(other)) == 3  # bridge, port, namespace
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert processes[0].poll() is not None
    assert left_of(other) == []
