"""One connection as the channel uses it: exact receives into memory, exact sends out of it.

Large pieces are received by one system call each, without the interpreter lock. Nothing is copied
in user space, except by TLS. Another thread may `shut`, which ends whatever waits here.
"""

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Protocol

from p2p.channel.tcp.spans import MAX_SPANS, PIECE_BYTES

_IO_VECTOR = MAX_SPANS
_HEADER_ROOM = 64  # a header goes out with the first piece


class Pipe(Protocol):
    """A connection whose other end has proven itself. Errors are `OSError`.

    Attributes:
        transport: what moves the bytes.
        is_shared: one thread may send while another receives.
    """

    transport: str
    is_shared: bool

    def receive(self, views: Sequence[memoryview]) -> None:
        """Fills views, in order. Blocks.

        Raises:
            ConnectionError: the other end has closed.
        """
        ...

    def send(self, views: Sequence[memoryview]) -> None:
        """Sends views, in order. Blocks."""
        ...

    def try_send(self, content: bytes) -> int:
        """Returns how many bytes could be sent without waiting, 0 if that cannot be."""
        ...

    def is_open(self) -> bool:
        """Returns whether the other end has said nothing and not closed. Never waits.

        For a moment in which nothing may come.
        """
        ...

    def shut(self) -> None:
        """Ends both directions at once, from any thread: who waits gets an error."""
        ...

    def close(self) -> None:
        """Gives the descriptor back, when nobody uses the pipe any more."""
        ...


class PlainPipe:
    """A TCP connection; implements `Pipe`."""

    transport = "tcp"
    is_shared = True

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def receive(self, views: Sequence[memoryview]) -> None:
        """Fills views by system calls of at most a piece, each as large as it can be."""
        for batch in _batches(views):
            missing = list(batch)
            while missing:
                if len(missing) == 1:
                    got = self._connection.recv_into(missing[0], 0, socket.MSG_WAITALL)
                else:
                    got = self._connection.recvmsg_into(missing, 0, socket.MSG_WAITALL)[0]
                if not got:
                    raise ConnectionError("the peer has closed the connection")
                missing = _rest(missing, got)

    def send(self, views: Sequence[memoryview]) -> None:
        """Sends views by system calls of at most a piece."""
        for batch in _batches(views):
            missing = list(batch)
            while missing:
                if len(missing) == 1:
                    sent = self._connection.send(missing[0])
                else:
                    sent = self._connection.sendmsg(missing)
                missing = _rest(missing, sent)

    def try_send(self, content: bytes) -> int:
        """Sends what the kernel takes now."""
        try:
            return self._connection.send(content, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def is_open(self) -> bool:
        """Looks without taking."""
        return _is_silent(self._connection)

    def shut(self) -> None:
        """Shuts the connection down."""
        shut_down(self._connection)

    def close(self) -> None:
        """Closes it."""
        self._connection.close()


class TlsPipe:
    """An encrypted connection, which one thread at a time uses; implements `Pipe`."""

    transport = "tls"
    is_shared = False

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self._connection = connection

    def receive(self, views: Sequence[memoryview]) -> None:
        """Fills views record by record."""
        for view in views:
            done = 0
            while done < len(view):
                got = self._connection.recv_into(view[done:])
                if not got:
                    raise ConnectionError("the peer has closed the connection")
                done += got

    def send(self, views: Sequence[memoryview]) -> None:
        """Sends views, each encrypted by itself."""
        for view in views:
            self._connection.sendall(view)

    def try_send(self, content: bytes) -> int:  # noqa: ARG002  two threads would break the cipher
        """Returns 0: only the thread that receives may send."""
        return 0

    def is_open(self) -> bool:
        """Looks below the cipher: what waits there may be TLS's own."""
        return not _has_ended(self._connection)

    def shut(self) -> None:
        """Shuts down below the cipher, which another thread is using."""
        shut_down(self._connection)

    def close(self) -> None:
        """Closes it."""
        self._connection.close()


def _batches(views: Sequence[memoryview]) -> Iterator[list[memoryview]]:
    """Yields the views in batches of at most a piece, and of as many as a system call takes."""
    batch: list[memoryview] = []
    room = PIECE_BYTES + _HEADER_ROOM
    for view in views:
        if batch and (len(view) > room or len(batch) == _IO_VECTOR):
            yield batch
            batch, room = [], PIECE_BYTES
        batch.append(view)
        room -= len(view)
    if batch:
        yield batch


def _rest(views: list[memoryview], num_done: int) -> list[memoryview]:
    """Returns what is left of views after so many bytes."""
    for number, view in enumerate(views):
        if num_done < len(view):
            return [view[num_done:], *views[number + 1 :]]
        num_done -= len(view)
    return []


def _is_silent(connection: socket.socket) -> bool:
    try:
        socket.socket.recv(connection, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _has_ended(connection: socket.socket) -> bool:
    try:
        flags = socket.MSG_PEEK | socket.MSG_DONTWAIT
        return not socket.socket.recv(connection, 1, flags)
    except BlockingIOError:
        return False
    except OSError:
        return True


def shut_down(connection: socket.socket) -> None:
    """Ends a socket's both directions, below TLS, from any thread."""
    with suppress(OSError):  # the other end may be faster
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
