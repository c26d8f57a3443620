"""Keeps the ports at which destroyed agents have listened from being taken by new ones.

UCX tells its peers apart by the address at which they listen. As long as a peer's end of a
connection to a destroyed agent is open, it takes whoever listens at that agent's address for the
same one, and closes what that one opens: 25 tries later the new agent's link is down, with
``NIXL_ERR_REMOTE_DISCONNECT``. So the port stays bound, by a socket that does not listen.
"""

import socket
from collections import deque
from dataclasses import dataclass

_MAX_PORTS = 256

Address = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a socket of this process listens.

    Attributes:
        inode: of the socket.
        family: of the address.
        here: the address.
    """

    inode: int
    family: socket.AddressFamily
    here: Address


class ReservedPorts:
    """Ports that nobody may listen at."""

    def __init__(self) -> None:
        self._sockets: deque[socket.socket] = deque()

    def __len__(self) -> int:
        return len(self._sockets)

    def take(self, listener: Listener) -> None:
        """Reserves the port of a socket that was closed just now, unless somebody has it already.

        With too many, the oldest is let go.
        """
        placeholder = socket.socket(listener.family, socket.SOCK_STREAM)
        try:
            # connections that were accepted there may linger
            placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            placeholder.bind(listener.here)
            placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        except OSError:
            placeholder.close()
            return
        self._sockets.append(placeholder)
        while len(self._sockets) > _MAX_PORTS:
            self._sockets.popleft().close()

    def release(self) -> None:
        """Lets go of all of them."""
        while self._sockets:
            self._sockets.popleft().close()


def listener_of(opened: socket.socket, inode: int) -> Listener | None:
    """Returns where a socket listens for TCP connections; None if it does not."""
    is_tcp = opened.family in {socket.AF_INET, socket.AF_INET6}
    if not is_tcp or opened.type != socket.SOCK_STREAM:
        return None
    if not opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return None
    return Listener(inode, socket.AddressFamily(opened.family), opened.getsockname())
