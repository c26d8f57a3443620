"""Keeps the sockets of a destroyed agent open until the peer has nothing more to send.

UCX aborts the *peer's process* if a TCP connection breaks while it still has reads of ours to
answer (`ucp_request.inl: Fatal: Endpoint timeout`): a peer that was stopped for a moment would die
of our giving it up. So the sockets of an agent that is torn down stay open, and what still arrives
is thrown away: it reaches no memory that anybody looks at. Meanwhile the ports at which that agent
has listened stay taken (see `p2p.agent.ports`).
"""

import contextlib
import os
import selectors
import socket
import stat
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from p2p.agent.ports import Address, Listener, ReservedPorts, listener_of

_BUFFER_BYTES = 1 << 20
_LOOK_S = 0.5
_QUIET_S = 2.0
_LONGEST_S = 600.0
_MAX_SOCKETS = 256


@dataclass(frozen=True, slots=True)
class _Held:
    """A second hold on a connection."""

    inode: int
    socket: socket.socket
    here: Address
    there: Address


@dataclass(slots=True)
class _Draining:
    """One socket, and the peers of whom it is not known that they have answered since."""

    socket: socket.socket
    inode: int
    peers: set[str]
    heard_s: float = field(default_factory=time.monotonic)

    def is_over(self, now_s: float) -> bool:
        """Returns whether the other side has sent all that it will."""
        return now_s > self.heard_s + (_LONGEST_S if self.peers else _QUIET_S)


class Drain:
    """Reads and forgets what peers still send to agents that are no more.

    One thread while there is something to read; it ends with the last socket.

    Attributes:
        num_bytes: thrown away so far.
    """

    _lock: ClassVar = threading.Lock()  # of this process, as are its open files
    _own: ClassVar[set[int]] = set()  # descriptors of second holds

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._draining: dict[int, _Draining] = {}
        self._ports = ReservedPorts()
        self._thread: threading.Thread | None = None
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._draining)

    @contextlib.contextmanager
    def taking_over(self, peers: Collection[str]) -> Iterator[None]:
        """Keeps the connections to others open that the block closes.

        Args:
            peers: who may have something to send yet, as `settle` names them. With nobody,
                nothing is kept.
        """
        held, listeners = self._hold_all() if peers else ([], [])
        try:
            yield
        finally:
            if held:
                self._keep_closed(held, listeners, set(peers))

    def settle(self, peer: str) -> None:
        """A peer has answered since: what it had to send is on its way, and then all is over."""
        with self._lock:
            for draining in self._draining.values():
                if peer not in draining.peers:
                    continue
                draining.peers.remove(peer)
                if not draining.peers:
                    draining.heard_s = time.monotonic()

    def _hold_all(self) -> tuple[list[_Held], list[Listener]]:
        """Takes a second hold on every connection; never on a second hold of another thread.

        Returns these holds, and where this process listens.
        """
        with self._lock:
            held, listeners = _connections(self._own)
            self._own.update(one.socket.fileno() for one in held)
        return held, listeners

    def _keep_closed(self, held: list[_Held], listeners: list[Listener], peers: set[str]) -> None:
        """Keeps those that nobody but us holds any more.

        Whether a connection lives is asked of the whole process, not of the number that it had: a
        byte taken from a live one would shift all that its owner reads after it.
        """
        with self._lock:
            alive = {inode for fd in _descriptors(self._own) if (inode := _inode(fd)) is not None}
            closed = [one for one in held if one.inode not in alive]
            both_ends = {one.here for one in closed} & {one.there for one in closed}
            for one in held:
                if one.inode in alive or one.here in both_ends or self._join(one.inode, peers):
                    self._close(one.socket)
                else:
                    self._add(one, set(peers))
            for listener in listeners if self._draining else ():
                if listener.inode not in alive:
                    self._ports.take(listener)

    def _join(self, inode: int, peers: set[str]) -> bool:
        """Returns whether a connection is being drained already; then it is for these peers too."""
        for draining in self._draining.values():
            if draining.inode == inode:
                draining.peers |= peers
                return True
        return False

    def _add(self, held: _Held, peers: set[str]) -> None:
        while len(self._draining) >= _MAX_SOCKETS:
            self._drop(next(iter(self._draining)))
        fd = held.socket.fileno()
        self._draining[fd] = _Draining(held.socket, held.inode, peers)
        self._selector.register(held.socket, selectors.EVENT_READ)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="p2p-drain", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        buffer = bytearray(_BUFFER_BYTES)
        while True:
            ready = self._selector.select(_LOOK_S)
            with self._lock:
                for key, _ in ready:
                    self._read(key.fd, buffer)
                now_s = time.monotonic()
                for fd in [fd for fd, one in self._draining.items() if one.is_over(now_s)]:
                    self._drop(fd)
                if not self._draining:
                    self._thread = None
                    return

    def _read(self, fd: int, buffer: bytearray) -> None:
        draining = self._draining.get(fd)
        if draining is None:
            return
        try:
            count = draining.socket.recv_into(buffer)
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if count == 0:
            self._drop(fd)
            return
        draining.heard_s = time.monotonic()
        self.num_bytes += count

    def _drop(self, fd: int) -> None:
        draining = self._draining.pop(fd)
        self._selector.unregister(draining.socket)
        self._close(draining.socket)
        if not self._draining:
            self._ports.release()

    def _close(self, connection: socket.socket) -> None:
        self._own.discard(connection.fileno())
        connection.close()


def _descriptors(own: Collection[int]) -> list[int]:
    """Returns the numbers of this process's open files, except those of second holds."""
    numbers = (int(path.name) for path in tuple(Path("/proc/self/fd").iterdir()))
    return [fd for fd in numbers if fd not in own]


def _connections(own: Collection[int]) -> tuple[list[_Held], list[Listener]]:
    """Returns second holds of this process's TCP connections, and where it listens."""
    found: list[_Held] = []
    listeners: list[Listener] = []
    for fd in _descriptors(own):
        if _inode(fd) is None:
            continue
        connection = _second_hold(fd)
        if connection is None:
            continue
        ends, inode = _ends(connection), _inode(connection.fileno())
        if ends is not None and inode is not None:
            found.append(_Held(inode, connection, *ends))
            continue
        listener = listener_of(connection, inode) if inode is not None else None
        if listener is not None:
            listeners.append(listener)
        connection.close()
    return found, listeners


def _second_hold(fd: int) -> socket.socket | None:
    """Returns a socket's duplicate; None if its number belongs to something else by now."""
    try:
        duplicate = os.dup(fd)
    except OSError:
        return None
    try:
        return socket.socket(fileno=duplicate)
    except OSError:
        os.close(duplicate)
        return None


def _ends(connection: socket.socket) -> tuple[Address, Address] | None:
    """Returns the two addresses of a TCP connection; None for any other socket."""
    is_tcp = connection.family in {socket.AF_INET, socket.AF_INET6}
    if not is_tcp or connection.type != socket.SOCK_STREAM:
        return None
    try:
        return connection.getsockname(), connection.getpeername()
    except OSError:
        return None


def _inode(fd: int) -> int | None:
    """Returns the inode of an open socket; None for anything else."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_ino if stat.S_ISSOCK(status.st_mode) else None


DRAIN = Drain()
