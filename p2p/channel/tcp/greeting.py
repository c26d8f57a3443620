"""What both ends of a stream tell each other before its first byte, and how they prove themselves.

The reader greets with a random number, the holder challenges with another and proves first, the
reader proves and is granted what it asked for. A proof is an HMAC over all that was said. Its key
comes from the offer's token, which only members are told, and from Curve25519's agreement between
the two CURVE keys where the cluster has keys: no secret travels. Pure values; no I/O.
"""

import hashlib
import hmac
from typing import Annotated, TypeVar

import msgspec

from p2p.channel.access import Access
from p2p.errors import ProtocolError

VERSION = 1
MAX_BYTES = 4096  # of one message
TOKEN_BYTES = 32
NONCE_BYTES = 32
NO_KEY = b""

_Text = Annotated[str, msgspec.Meta(max_length=256)]
_Token = Annotated[bytes, msgspec.Meta(min_length=TOKEN_BYTES, max_length=TOKEN_BYTES)]
_Nonce = Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
_Key = Annotated[bytes, msgspec.Meta(max_length=32)]
_Proof = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Version = Annotated[int, msgspec.Meta(ge=1, le=1 << 31)]


class TcpMetadata(msgspec.Struct, frozen=True, tag="tcp", forbid_unknown_fields=True):
    """The channel's part of an offer. It travels where only members of the cluster read it.

    Attributes:
        version: of this protocol.
        host: where the holder listens.
        port: there.
        token: what a reader must know; new with every channel.
        key: the holder's public CURVE key; empty in a cluster without keys.
        is_tls: streams are encrypted.
    """

    version: _Version
    host: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    token: _Token
    key: _Key
    is_tls: bool


class Greeting(msgspec.Struct, frozen=True, tag="greeting", forbid_unknown_fields=True):
    """A reader's first message.

    Attributes:
        version: of this protocol.
        nonce: random.
        key: the reader's public CURVE key; empty without keys.
        origin: the reader's channel, random: its streams share the holder's bandwidth as one.
        access: what is asked for.
    """

    version: _Version
    nonce: _Nonce
    key: _Key
    origin: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    access: Access


class Challenge(msgspec.Struct, frozen=True, tag="challenge", forbid_unknown_fields=True):
    """The holder's answer to a greeting.

    Attributes:
        nonce: random.
        proof: that the holder knows what its offer promised.
    """

    nonce: _Nonce
    proof: _Proof


class Proof(msgspec.Struct, frozen=True, tag="proof", forbid_unknown_fields=True):
    """The reader's answer to a challenge."""

    proof: _Proof


class Grant(msgspec.Struct, frozen=True, tag="grant", forbid_unknown_fields=True):
    """The holder's yes.

    Attributes:
        access: what is allowed.
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


Message = TcpMetadata | Greeting | Challenge | Proof | Grant | Denial
M = TypeVar("M")


def encode(message: Message) -> bytes:
    """Returns a message's bytes."""
    return msgspec.msgpack.encode(message)


def decode_metadata(peer: str, content: bytes) -> TcpMetadata:
    """Returns an offer's metadata.

    Raises:
        ProtocolError: it is none.
    """
    return _decode(peer, content, msgspec.msgpack.Decoder(TcpMetadata))


def decode_greeting(peer: str, content: bytes) -> Greeting:
    """Returns a greeting.

    Raises:
        ProtocolError: it is none.
    """
    return _decode(peer, content, msgspec.msgpack.Decoder(Greeting))


def decode_challenge(peer: str, content: bytes) -> Challenge | Denial:
    """Returns a holder's first answer.

    Raises:
        ProtocolError: it is none.
    """
    decoder: msgspec.msgpack.Decoder[Challenge | Denial]
    decoder = msgspec.msgpack.Decoder(Challenge | Denial)
    return _decode(peer, content, decoder)


def decode_proof(peer: str, content: bytes) -> Proof:
    """Returns a reader's proof.

    Raises:
        ProtocolError: it is none.
    """
    return _decode(peer, content, msgspec.msgpack.Decoder(Proof))


def decode_grant(peer: str, content: bytes) -> Grant | Denial:
    """Returns a holder's last answer.

    Raises:
        ProtocolError: it is none.
    """
    decoder: msgspec.msgpack.Decoder[Grant | Denial]
    decoder = msgspec.msgpack.Decoder(Grant | Denial)
    return _decode(peer, content, decoder)


def pair_key(token: bytes, shared: bytes) -> bytes:
    """Returns the key of all proofs between two ends.

    Args:
        token: of the holder's offer.
        shared: what their CURVE keys agree on; empty without keys.
    """
    return hmac.digest(token, b"p2p tcp 1" + shared, hashlib.sha256)


def proof_of(role: str, key: bytes, greeting: Greeting, holder_key: bytes, nonce: bytes) -> bytes:
    """Returns what an end proves itself with.

    Args:
        role: ``holder`` or ``reader``, so that no end can be shown its own proof.
        key: of the pair.
        greeting: the reader's.
        holder_key: the holder's public key.
        nonce: the holder's.
    """
    said = (role.encode(), encode(greeting), holder_key, nonce)
    framed = b"".join(len(part).to_bytes(4, "little") + part for part in said)
    return hmac.digest(key, framed, hashlib.sha256)


def _decode(peer: str, content: bytes, decoder: "msgspec.msgpack.Decoder[M]") -> M:
    try:
        return decoder.decode(content)
    except (ValueError, RecursionError) as error:
        text = f"{peer}: {len(content)} bytes are not of the tcp channel: {error}"
        raise ProtocolError(text) from error
