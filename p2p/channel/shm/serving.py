"""Lends a pool's memory file over a unix socket: one thread, asleep unless somebody comes or goes.

A connection lives as long as both ends do, so each notices the other's death.
"""

import hmac
import logging
import os
import secrets
import selectors
import socket
import threading
import time
from contextlib import suppress

from p2p.agent.memory_files import SharedFile
from p2p.channel.access import Access
from p2p.channel.forks import close_in_children
from p2p.channel.shm.greeting import (
    MAX_BYTES,
    TOKEN_BYTES,
    VERSION,
    Denial,
    Grant,
    Greeting,
    ShmMetadata,
    decode_greeting,
    encode,
    expected_user,
    peer_user,
    this_place,
)
from p2p.channel.shm.settings import PoolWriters, ShmConfig
from p2p.errors import MemoryUnavailableError, ProtocolError

_LOGGER = logging.getLogger(__name__)
_BACKLOG = 128
_MAX_READERS = 4096
_GREETING_S = 5.0
_FULL_S = 0.1


class PoolServer:
    """Serves one memory file until closed.

    Args:
        file: what is lent.
        config: what for.

    Attributes:
        metadata: what a peer needs to connect, constant.

    Raises:
        MemoryUnavailableError: no socket can be opened, or the kernel cannot protect the file.
    """

    def __init__(self, file: SharedFile, config: ShmConfig) -> None:
        access = config.access
        if access is Access.READ and config.writers is PoolWriters.HOLDER:
            file.forbid_writers()
        self._file = file
        self._access = access
        self._token = secrets.token_bytes(TOKEN_BYTES)
        name = f"p2p-shm-{secrets.token_hex(16)}"
        try:
            self._listener = _listen(name)
        except OSError as error:
            raise MemoryUnavailableError(f"no unix socket to lend the pool: {error}") from error
        self._read_only = os.open(f"/proc/self/fd/{file.descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        place = this_place()
        self.metadata = encode(
            ShmMetadata(
                version=VERSION,
                boot=place.boot,
                network=place.network,
                name=name,
                token=self._token,
                address=file.address,
                num_bytes=file.num_bytes,
            )
        )
        self._readers: dict[socket.socket, float] = {}  # when a silent one is dropped; 0: greeted
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stop, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="p2p-shm", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops serving: every reader's link goes down. Idempotent."""
        if not self._thread.is_alive():
            return
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        for connection in (self._listener, *self._readers):
            connection.close()
        self._readers.clear()
        self._selector.close()
        os.close(self._stop)
        os.close(self._read_only)

    def _run(self) -> None:
        while True:
            is_waiting = any(self._readers.values())
            for key, _ in self._selector.select(_GREETING_S if is_waiting else None):
                if key.fd == self._stop:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket):
                    self._hear(key.fileobj)
            self._drop_silent()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            _LOGGER.warning("shm: a reader cannot be accepted: %s", error)
            time.sleep(_FULL_S)  # out of descriptors: it stays in the queue
            return
        if len(self._readers) >= _MAX_READERS:
            connection.close()
            return
        connection.setblocking(False)  # noqa: FBT003  the standard library's own
        close_in_children(connection)
        self._readers[connection] = time.monotonic() + _GREETING_S
        self._selector.register(connection, selectors.EVENT_READ)

    def _hear(self, connection: socket.socket) -> None:
        """Answers a greeting; whatever follows it, and the end, end the connection."""
        try:
            content = connection.recv(MAX_BYTES)
            if not content or not self._readers[connection]:
                self._drop(connection)
                return
            self._answer(connection, decode_greeting("a reader", content))
        except (OSError, ProtocolError) as error:
            _LOGGER.warning("shm: a reader was dropped: %s", error)
            self._drop(connection)

    def _answer(self, connection: socket.socket, greeting: Greeting) -> None:
        denial = self._denial(connection, greeting)
        if denial is not None:
            _LOGGER.warning(
                "shm: a reader was refused: %s is %s, not %s",
                denial.field,
                denial.found,
                denial.expected,
            )
            with suppress(OSError):
                connection.send(encode(denial))
            self._drop(connection)
            return
        self._readers[connection] = 0.0
        is_asked = greeting.access is Access.WRITE
        access = self._access if is_asked else Access.READ
        descriptor = self._read_only if access is Access.READ else self._file.descriptor
        socket.send_fds(connection, [encode(Grant(access=access))], [descriptor])

    def _denial(self, connection: socket.socket, greeting: Greeting) -> Denial | None:
        user, ours = peer_user(connection), expected_user()
        if user != ours:
            return Denial(field="user", expected=str(ours), found=str(user))
        if greeting.version != VERSION:
            return Denial(field="version", expected=str(VERSION), found=str(greeting.version))
        if not hmac.compare_digest(greeting.token, self._token):
            return Denial(field="token", expected="that of the offer", found="another")
        return None

    def _drop_silent(self) -> None:
        now_s = time.monotonic()
        for connection in [one for one, until_s in self._readers.items() if 0 < until_s < now_s]:
            self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._readers[connection]
        connection.close()


def _listen(name: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listener.setblocking(False)  # noqa: FBT003  the standard library's own
        listener.bind(f"\0{name}")
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    close_in_children(listener)
    return listener
