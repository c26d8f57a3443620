"""The HTTP side's thread: uvicorn with a loop of its own. The ZMQ side goes on without it."""

import asyncio
import logging
import re
import socket
import threading
from contextlib import closing

import uvicorn

from p2p.errors import ConfigError
from p2p.wire.context import WireContext
from p2p.wire.curve import CurveKeys
from p2p.wire.decoders import CONTROLLER_REPLIES
from p2p_controller.http.app import make_app
from p2p_controller.http.asking import Asking
from p2p_controller.http.gate import Gate, load_token
from p2p_controller.line import Line
from p2p_controller.settings import ControllerSettings, http_host_and_port

logger = logging.getLogger(__name__)
_MAX_CONNECTIONS = 512
_GRACE_S = 2
_JOIN_S = 10.0
_ANY_HOST = re.compile(r"^tcp://(0\.0\.0\.0|\[::\]):")


class HttpFront:
    """Serves HTTP beside a controller.

    Args:
        settings: the controller's.
        controller: address that it has bound.
        keys: the controller's own, which open a line to it and to the instances.

    Attributes:
        address: URL, with the real port.

    Raises:
        ConfigError: the address is in use or none of ours, or the token file is of no use.
    """

    def __init__(
        self, settings: ControllerSettings, controller: str, keys: CurveKeys | None
    ) -> None:
        host, port = http_host_and_port(settings.http)
        token = load_token(settings.http_token_file)
        self._socket = _bound(settings.http, host, port)
        ip, real_port = self._socket.getsockname()[:2]
        self.address = f"http://[{ip}]:{real_port}" if ":" in ip else f"http://{ip}:{real_port}"
        self._gate = Gate(host, ip, token, is_guarded=keys is not None)
        self._controller = _reachable(controller)
        self._keys = keys
        self._server: uvicorn.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_stopping = threading.Event()
        self._num_ended = 0
        self._thread = threading.Thread(target=self._run, name="p2p-http", daemon=True)

    @property
    def num_ended(self) -> int:
        """1 if the thread has ended although nobody stopped it."""
        return self._num_ended

    def start(self) -> None:
        """Begins to serve; connections have been accepted since the start."""
        self._thread.start()

    def stop(self) -> None:
        """Lets requests under way be answered for two seconds, then ends the thread."""
        self._is_stopping.set()
        if self._server is not None:
            self._server.should_exit = True
        self._thread.join(_JOIN_S)
        self.close()

    def close(self) -> None:
        """Gives the address back."""
        self._socket.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            if not self._is_stopping.is_set():
                self._num_ended = 1
                logger.error("HTTP at %s has ended by itself; ZMQ goes on", self.address)
                self.close()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        wire = WireContext(self._keys)
        with closing(wire), closing(Line(wire, self._controller, CONTROLLER_REPLIES)) as controller:
            app = make_app(Asking(controller, wire), self._gate)
            config = uvicorn.Config(
                app,
                log_config=None,
                log_level="warning",
                access_log=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,
                server_header=False,
                limit_concurrency=_MAX_CONNECTIONS,
                timeout_graceful_shutdown=_GRACE_S,
            )
            self._server = uvicorn.Server(config)
            if self._is_stopping.is_set():
                return
            logger.info("HTTP is served at %s", self.address)
            await self._server.serve(sockets=[self._socket])


def _bound(setting: str, host: str, port: int) -> socket.socket:
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, _, _, _, place = infos[0]
        return socket.create_server(place[:2], family=family)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ConfigError("controller.http", setting, str(error)) from error


def _reachable(address: str) -> str:
    """Returns the address under which this host reaches what is bound to all of its own."""
    match = _ANY_HOST.match(address)
    if match is None:
        return address
    host = "127.0.0.1" if match[1] == "0.0.0.0" else "[::1]"  # noqa: S104 compared, not bound
    return f"tcp://{host}:{address[match.end() :]}"
