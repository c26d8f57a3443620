"""One process's ZMQ context: socket options, CURVE, and what every socket has in common."""

import re
from collections.abc import Callable

import zmq
import zmq.auth.thread

from p2p.errors import ConfigError
from p2p.wire.codec import MAX_BODY_BYTES
from p2p.wire.curve import CurveKeys

_ADDRESS = re.compile(
    r"^(tcp://[^\s:/]+:(\d{1,5}|\*)|tcp://\[[0-9a-fA-F:.%]+\]:(\d{1,5}|\*)|ipc://.+)$"
)
_HEARTBEAT_MS = 2_000
_HEARTBEAT_TIMEOUT_MS = 6_000
_SEND_QUEUE_MESSAGES = 10_000


def check_address(key: str, address: str) -> str:
    """Returns the address if it is one.

    Raises:
        ConfigError: naming the setting and the value.
    """
    match = _ADDRESS.match(address)
    port = (match[2] or match[3]) if match else None
    if match is None or (port not in {None, "*"} and int(port) > 65535):
        raise ConfigError(key, address, "use tcp://HOST:PORT or ipc://PATH")
    return address


class WireContext:
    """Makes sockets that share one I/O thread and, where keys are configured, CURVE.

    Args:
        keys: with keys every socket authenticates and encrypts; who has none gets no answer.
    """

    def __init__(self, keys: CurveKeys | None = None) -> None:
        self.keys = keys
        self._context = zmq.Context()
        self._authenticator: zmq.auth.thread.ThreadAuthenticator | None = None

    def dealer(
        self,
        address: str,
        server_key: str = "",
        before: Callable[[zmq.Socket[bytes]], None] | None = None,
    ) -> zmq.Socket[bytes]:
        """Returns a connected DEALER; ZMQ connects and reconnects in the background.

        Args:
            address: of the other end.
            server_key: its public key, where CURVE is on; empty for the controller's.
            before: called with the socket before it connects.
        """
        check_address("address", address)
        socket = self._socket(zmq.DEALER, address)
        if self.keys is not None:
            socket.curve_publickey = self.keys.public.encode()
            socket.curve_secretkey = self.keys.secret.encode()
            socket.curve_serverkey = (server_key or self.keys.controller_public).encode()
        socket.setsockopt(zmq.RECONNECT_IVL, 50)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2_000)
        if before is not None:
            before(socket)
        try:
            socket.connect(address)
        except zmq.ZMQError as error:
            socket.close(0)
            raise ConfigError("address", address, str(error)) from error
        return socket

    def router(self, address: str, key: str = "bind") -> zmq.Socket[bytes]:
        """Returns a bound ROUTER.

        Raises:
            ConfigError: the address is malformed or in use; names the setting ``key``.
        """
        check_address(key, address)
        self._authenticate()
        socket = self._socket(zmq.ROUTER, address)
        if self.keys is not None:
            socket.curve_server = True
            socket.curve_publickey = self.keys.public.encode()
            socket.curve_secretkey = self.keys.secret.encode()
        try:
            socket.bind(address)
        except zmq.ZMQError as error:
            socket.close(0)
            raise ConfigError(key, address, str(error)) from error
        return socket

    def close(self) -> None:
        """Closes the context and every socket still open. Idempotent."""
        if self._authenticator is not None:
            self._authenticator.stop()
            self._authenticator = None
        self._context.destroy(linger=0)

    def _socket(self, kind: int, address: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, 2 * MAX_BODY_BYTES)
        socket.setsockopt(zmq.SNDHWM, _SEND_QUEUE_MESSAGES)
        socket.setsockopt(zmq.RCVHWM, _SEND_QUEUE_MESSAGES)
        socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
        socket.setsockopt(zmq.IPV6, int("[" in address))
        return socket

    def _authenticate(self) -> None:
        if self.keys is None or self._authenticator is not None:
            return
        self._authenticator = zmq.auth.thread.ThreadAuthenticator(self._context)
        self._authenticator.start()
        self._authenticator.configure_curve(domain="*", location=self.keys.authorized)
