"""The HTTP thread alone: a silent controller, too many at once, its death, a missing extra."""

import socket
import subprocess
import sys
import threading
from contextlib import closing
from http import HTTPStatus

import pytest

from p2p_controller.client import ControllerClient
from p2p_controller.http.door import MAX_AT_ONCE
from p2p_controller.http.front import HttpFront
from p2p_controller.server import ControllerServer
from p2p_controller.settings import ControllerSettings
from tests.e2e.controller_process import environment, until
from tests.e2e.http_client import HttpClient

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SETTINGS = ControllerSettings(bind="tcp://127.0.0.1:*", http="127.0.0.1:0")


@pytest.fixture
def lonely():
    """A front whose controller never answers."""
    with socket.socket() as unused:  # bound and not listening
        unused.bind(("127.0.0.1", 0))
        front = HttpFront(SETTINGS, f"tcp://127.0.0.1:{unused.getsockname()[1]}", None)
        front.start()
        yield front
        front.stop()
    assert front.num_ended == 0


def test_a_silent_controller_is_a_503(lonely):
    http = HttpClient(lonely.address)
    for path in ("/v1/status", "/healthz"):
        reply = http.get(path)
        assert (reply.status, reply.error["code"]) == (503, "silent")
        assert reply.headers["retry-after"] == "1"
    ready = http.get("/readyz")
    assert (ready.status, ready.json["ready"]) == (503, False)
    assert "GetStatus" in ready.json["reason"]
    assert b"\np2p_controller_up 0.0\n" in http.get("/metrics").content


def test_more_requests_than_there_is_room_for_are_turned_away(lonely):
    place = lonely.address.removeprefix("http://").rsplit(":", 1)
    waiting = []
    try:
        for _ in range(MAX_AT_ONCE):
            connection = socket.create_connection((place[0], int(place[1])))
            connection.sendall(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
            waiting.append(connection)
        reply = HttpClient(lonely.address).get("/v1/status")
        assert (reply.status, reply.error["code"]) == (503, "busy")
    finally:
        for connection in waiting:
            connection.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_zmq_goes_on_when_the_http_thread_dies(caplog):
    server = ControllerServer(SETTINGS)
    serving = threading.Thread(target=server.serve)
    serving.start()
    try:
        with ControllerClient(server.address) as client:
            assert HttpClient(server.http_address).get("/healthz").status == HTTPStatus.OK
            front = server._http
            assert front is not None
            assert front._loop is not None
            front._loop.call_soon_threadsafe(front._loop.stop)
            assert until(lambda: client.status().counters.get("http_ended") == 1)
            assert client.instances().instances == ()
        assert "has ended by itself" in caplog.text
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(server.http_address.rpartition(":")[2])))
    finally:
        server.stop()
        serving.join(10)
    assert not serving.is_alive()


def test_a_server_that_never_served_gives_its_http_address_back():
    for _ in range(2):
        with closing(ControllerServer(SETTINGS)) as server:
            assert server.http_address.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "prometheus_client"])
def test_a_missing_extra_is_2_and_named(package):
    code = (
        f"import sys; sys.modules[{package!r}] = None;"
        "from p2p_controller.__main__ import main;"
        "sys.exit(main(['serve', '--bind', 'tcp://127.0.0.1:*', '--http', '127.0.0.1:*']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 2
    assert "controller.http = '127.0.0.1:*'" in done.stderr
    assert "p2p-kv[controller]" in done.stderr
