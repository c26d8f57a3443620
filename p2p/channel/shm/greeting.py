"""What holder and reader tell each other before a pool is lent, and what an offer says of it."""

import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from p2p.channel.access import Access
from p2p.errors import ProtocolError

VERSION = 1
MAX_BYTES = 4096  # of one message
TOKEN_BYTES = 32
_CREDENTIALS = struct.Struct("3i")  # process, user, group

_Text = Annotated[str, msgspec.Meta(max_length=256)]
_Token = Annotated[bytes, msgspec.Meta(max_length=TOKEN_BYTES)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class ShmMetadata(msgspec.Struct, frozen=True, tag="shm", forbid_unknown_fields=True):
    """The channel's part of an offer. It travels where only members of the cluster read it.

    Attributes:
        version: of this protocol.
        boot: the host's boot id.
        network: the network namespace, in which the socket's name is known.
        name: of the abstract unix socket; empty if the memory is private and cannot be lent.
        token: what a reader must know; new with every channel.
        address: of the memory file in the holder, to which the offer's region refers.
        num_bytes: size of the memory file.
    """

    version: Annotated[int, msgspec.Meta(ge=1, le=1 << 31)]
    boot: _Text
    network: _Text
    name: _Text
    token: _Token
    address: _Count
    num_bytes: _Count


class Greeting(msgspec.Struct, frozen=True, tag="greeting", forbid_unknown_fields=True):
    """A reader's first and only message.

    Attributes:
        version: of this protocol.
        token: from the offer.
        access: what is asked for.
    """

    version: Annotated[int, msgspec.Meta(ge=1, le=1 << 31)]
    token: _Token
    access: Access


class Grant(msgspec.Struct, frozen=True, tag="grant", forbid_unknown_fields=True):
    """The holder's yes; the memory file comes with it.

    Attributes:
        access: what the file may be mapped for.
    """

    access: Access


class Denial(msgspec.Struct, frozen=True, tag="denial", forbid_unknown_fields=True):
    """The holder's no.

    Attributes:
        field: what does not fit.
        expected: what would.
        found: what came.
    """

    field: _Text
    expected: _Text
    found: _Text


Answer = Grant | Denial
M = TypeVar("M", ShmMetadata, Greeting, Answer)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process can be reached over an abstract unix socket.

    Attributes:
        boot: the host's boot id.
        network: the network namespace.
    """

    boot: str
    network: str


def this_place() -> Place:
    """Returns where this process is."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Place(boot, str(Path("/proc/self/ns/net").readlink()))


def encode(message: ShmMetadata | Greeting | Answer) -> bytes:
    """Returns a message's bytes."""
    return msgspec.msgpack.encode(message)


def decode_metadata(peer: str, content: bytes) -> ShmMetadata:
    """Returns an offer's metadata.

    Raises:
        ProtocolError: it is none.
    """
    return _decode(peer, content, msgspec.msgpack.Decoder(ShmMetadata))


def decode_greeting(peer: str, content: bytes) -> Greeting:
    """Returns a greeting.

    Raises:
        ProtocolError: it is none.
    """
    return _decode(peer, content, msgspec.msgpack.Decoder(Greeting))


def decode_answer(peer: str, content: bytes) -> Answer:
    """Returns an answer.

    Raises:
        ProtocolError: it is none.
    """
    answer: Answer = _decode(peer, content, msgspec.msgpack.Decoder(Answer))
    return answer


def peer_user(connection: socket.socket) -> int:
    """Returns the user of the process at the other end, as the kernel says."""
    size = _CREDENTIALS.size
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    user: int = _CREDENTIALS.unpack(credentials)[1]
    return user


def expected_user() -> int:
    """Returns the user to whom we lend and from whom we borrow: our own."""
    return os.geteuid()


def _decode(peer: str, content: bytes, decoder: "msgspec.msgpack.Decoder[M]") -> M:
    try:
        return decoder.decode(content)
    except msgspec.DecodeError as error:
        text = f"{peer}: {len(content)} bytes are not of the shm channel: {error}"
        raise ProtocolError(text) from error
