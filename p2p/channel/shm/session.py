"""A peer's pool, mapped here: made by dialling, given back when nobody uses it any more."""

import mmap
import os
import socket
import time
import weakref
from dataclasses import dataclass

import numpy as np

from p2p.agent.memory import advise
from p2p.agent.memory_files import is_sealed, lies_within
from p2p.channel.access import Access
from p2p.channel.forks import close_in_children
from p2p.channel.shm.greeting import (
    MAX_BYTES,
    VERSION,
    Denial,
    Greeting,
    ShmMetadata,
    decode_answer,
    decode_metadata,
    encode,
    expected_user,
    peer_user,
    this_place,
)
from p2p.errors import (
    MemoryUnavailableError,
    PeerRefusedError,
    PeerUnreachableError,
    ProtocolError,
)
from p2p.regions import PROBE_BYTES, Region


@dataclass(frozen=True, slots=True)
class Target:
    """A peer as its offer describes it.

    Attributes:
        peer: its name in our words.
        metadata: how its memory file is had.
        region: its blocks, by the holder's addresses.
    """

    peer: str
    metadata: ShmMetadata
    region: Region


class Session:
    """A connection to a holder and its memory file, mapped. Unmapped with its last reference.

    Args:
        connection: to the holder; open while it lives.
        memory: its file.
        target: the holder.
        access: what the file is mapped for.

    Attributes:
        target: the holder.
        access: what the file is mapped for.
        shift: what is added to an address of the holder's to have ours.
    """

    def __init__(
        self, connection: socket.socket, memory: mmap.mmap, target: Target, access: Access
    ) -> None:
        self.target = target
        self.access = access
        self._memory = np.frombuffer(memory, np.uint8)
        self.shift = int(self._memory.ctypes.data) - target.metadata.address
        self._connection = connection
        self._is_alive = True
        connection.setblocking(False)  # noqa: FBT003  the standard library's own
        close_in_children(connection)
        weakref.finalize(self, connection.close)

    def probe(self) -> bytes:
        """Returns what lies in the holder's probe; nothing if it has none."""
        probe = self.target.region.probe
        if probe is None:
            return b""
        offset = probe.base - self.target.metadata.address
        return self._memory[offset : offset + PROBE_BYTES].tobytes()

    def is_alive(self) -> bool:
        """Returns whether the holder's process lives and serves. One system call, never waits."""
        if self._is_alive:
            try:
                self._is_alive = bool(self._connection.recv(1, socket.MSG_PEEK))
            except BlockingIOError:
                return True
            except OSError:
                self._is_alive = False
        return self._is_alive


def read_target(peer: str, metadata: bytes, region: Region) -> Target:
    """Returns what an offer says.

    Raises:
        ProtocolError: the metadata is not this channel's, or does not cover the region.
        PeerRefusedError: the peer is on another host or in another network namespace, speaks
            another version, or its memory is private.
    """
    target = Target(peer, decode_metadata(peer, metadata), region)
    theirs, ours = target.metadata, this_place()
    for field, our, their in (
        ("version", VERSION, theirs.version),
        ("host", ours.boot, theirs.boot),
        ("network namespace", ours.network, theirs.network),
    ):
        if our != their:
            raise PeerRefusedError(peer, field, our, their)
    if not theirs.name:
        raise PeerRefusedError(peer, "memory", "shared", "private")
    if not lies_within(region, theirs.address, theirs.num_bytes):
        raise ProtocolError(f"{peer}: its region lies outside of its memory file")
    return target


def open_session(target: Target, access: Access, timeout_s: float) -> Session:
    """Connects to a holder and maps its pool. Blocks.

    Raises:
        PeerUnreachableError: it does not answer within ``timeout_s``, or has ended.
        PeerRefusedError: it runs as another user, or said no; names the field.
        ProtocolError: what it said or lent is not of this channel.
        MemoryUnavailableError: its pool cannot be mapped here.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        descriptor, granted = _ask(connection, target, access, timeout_s)
        try:
            memory = _map(target, descriptor, granted)
        finally:
            os.close(descriptor)
    except BaseException:
        connection.close()
        raise
    return Session(connection, memory, target, granted)


def _ask(
    connection: socket.socket, target: Target, access: Access, timeout_s: float
) -> tuple[int, Access]:
    """Returns the holder's memory file, and what it may be mapped for."""
    peer, deadline_s = target.peer, time.monotonic() + timeout_s
    try:
        connection.settimeout(timeout_s)
        connection.connect(f"\0{target.metadata.name}")
        _check_user(connection, peer)
        token = target.metadata.token
        connection.send(encode(Greeting(version=VERSION, token=token, access=access)))
        connection.settimeout(max(deadline_s - time.monotonic(), 0.001))
        content, descriptors, _, _ = socket.recv_fds(
            connection, MAX_BYTES, 1, socket.MSG_CMSG_CLOEXEC
        )
    except TimeoutError as error:
        raise PeerUnreachableError(peer, f"no answer in {timeout_s} s") from error
    except OSError as error:
        raise PeerUnreachableError(peer, f"its unix socket: {error}") from error
    try:
        granted = _granted(peer, content, len(descriptors))
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return descriptors[0], granted


def _granted(peer: str, content: bytes, num_files: int) -> Access:
    """Returns what an answer allows."""
    if not content:
        raise PeerUnreachableError(peer, "it closed the connection without an answer")
    answer = decode_answer(peer, content)
    if isinstance(answer, Denial):
        raise PeerRefusedError(peer, answer.field, answer.found, answer.expected)
    if num_files != 1:
        raise ProtocolError(f"{peer}: {num_files} files came with its grant, not one")
    return answer.access


def _check_user(connection: socket.socket, peer: str) -> None:
    """Nobody else is told the token, nor believed what it lends."""
    ours, theirs = expected_user(), peer_user(connection)
    if ours != theirs:
        raise PeerRefusedError(peer, "user", ours, theirs)


def _map(target: Target, descriptor: int, access: Access) -> mmap.mmap:
    """Maps a file that can no longer shrink: reading behind its end would kill us."""
    peer, size = target.peer, target.metadata.num_bytes
    try:
        found, is_safe = os.fstat(descriptor).st_size, is_sealed(descriptor)
    except OSError as error:
        raise ProtocolError(f"{peer}: it lent something that is no memory file") from error
    if found != size or not is_safe:
        state = "sealed" if is_safe else "not sealed"
        text = f"{peer}: it lent {found} bytes, {state}, where it offered {size}, sealed"
        raise ProtocolError(text)
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if access is Access.WRITE else 0)
    try:
        memory = mmap.mmap(descriptor, size, mmap.MAP_SHARED, protection)
    except (OSError, OverflowError) as error:
        reason = f"the pool of {peer}, {size} bytes, cannot be mapped: {error}"
        raise MemoryUnavailableError(reason) from error
    advise(memory)
    return memory
