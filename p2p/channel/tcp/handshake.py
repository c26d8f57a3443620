"""Both ends of a new connection prove themselves to each other; what comes out is a pipe."""

import hmac
import secrets
import socket
import ssl
import struct
import time
from dataclasses import dataclass

from p2p.channel.access import Access
from p2p.channel.forks import close_in_children
from p2p.channel.tcp.greeting import (
    MAX_BYTES,
    NONCE_BYTES,
    VERSION,
    Challenge,
    Denial,
    Grant,
    Greeting,
    Message,
    Proof,
    TcpMetadata,
    decode_challenge,
    decode_grant,
    decode_greeting,
    decode_proof,
    encode,
    pair_key,
    proof_of,
)
from p2p.channel.tcp.identity import Identity
from p2p.channel.tcp.pipe import Pipe, PlainPipe, TlsPipe
from p2p.channel.tcp.settings import TlsFiles
from p2p.errors import (
    ArgumentError,
    ConfigError,
    PeerRefusedError,
    PeerUnreachableError,
    ProtocolError,
)

_SIZE = struct.Struct("<H")
_PROBES = 3


@dataclass(frozen=True, slots=True)
class Ends:
    """What our end of every stream is made with.

    Attributes:
        identity: our keys.
        origin: names our channel among those who read from a holder.
        silence_s: the host of a peer that acknowledges nothing for so long is dead.
        connecting: TLS of the streams that we open; None without.
        accepting: TLS of those that we accept; None without.
    """

    identity: Identity
    origin: bytes
    silence_s: int
    connecting: ssl.SSLContext | None
    accepting: ssl.SSLContext | None


@dataclass(frozen=True, slots=True)
class Admitted:
    """A stream that may carry bytes.

    Attributes:
        pipe: it.
        access: what the reader may do.
        reader: who that is: its key, or without keys what it calls itself.
    """

    pipe: Pipe
    access: Access
    reader: bytes


def tls_contexts(files: TlsFiles) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Returns the contexts for connecting and for accepting; either asks for a certificate.

    Raises:
        ConfigError: a file is not what it should be.
    """
    contexts = []
    for protocol in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER):
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # members are known by key and authority, not by address
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_cert_chain(files.certificate, files.key)
            context.load_verify_locations(files.authority)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError("tcp.tls", str(files.certificate.parent), str(error)) from error
        contexts.append(context)
    return contexts[0], contexts[1]


def open_stream(
    peer: str, target: TcpMetadata, access: Access, ends: Ends, timeout_s: float
) -> Admitted:
    """Connects to a holder. Blocks.

    Raises:
        PeerUnreachableError: it does not answer within ``timeout_s``, or has ended.
        PeerRefusedError: it did not prove itself, or said no; names the field.
        ProtocolError: what it said is not of this channel.
    """
    deadline_s = time.monotonic() + timeout_s
    connection: socket.socket | None = None
    try:
        connection = socket.create_connection((target.host, target.port), timeout_s)
        prepare(connection, ends.silence_s)
        if ends.connecting is not None:
            connection = ends.connecting.wrap_socket(connection)
        said = _Said(peer, connection, deadline_s)
        granted = _ask(peer, said, target, access, ends)
        return Admitted(_pipe(connection), granted, target.key)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, TimeoutError):
            raise PeerUnreachableError(peer, f"no answer in {timeout_s} s") from error
        if isinstance(error, ssl.SSLCertVerificationError):
            found = error.verify_message
            raise PeerRefusedError(peer, "certificate", "signed by our authority", found) from error
        if isinstance(error, OSError):
            raise PeerUnreachableError(peer, f"its tcp socket: {error}") from error
        raise


def admit(
    name: str,
    connection: socket.socket,
    ours: tuple[TcpMetadata, Access],
    ends: Ends,
    timeout_s: float,
) -> Admitted:
    """Lets a reader in that proves itself. Blocks; closes the connection if it fails.

    Raises:
        PeerRefusedError: it was denied; names the field.
        ProtocolError: what it said is not of this channel.
        OSError: it has closed, or is silent for ``timeout_s``.
    """
    deadline_s = time.monotonic() + timeout_s
    try:
        prepare(connection, ends.silence_s)
        if ends.accepting is not None:
            connection.settimeout(timeout_s)
            connection = ends.accepting.wrap_socket(connection, server_side=True)
        said = _Said(name, connection, deadline_s)
        access, reader = _answer(name, said, ours, ends)
        return Admitted(_pipe(connection), access, reader)
    except BaseException:
        connection.close()
        raise


def prepare(connection: socket.socket, silence_s: int) -> None:
    """Sets what every stream has: no delay, and an end when the other host is gone."""
    close_in_children(connection)
    options = (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, silence_s - _PROBES)),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, silence_s * 1000),
    )
    for level, option, value in options:
        connection.setsockopt(level, option, value)


class _Said:
    """Messages on a connection, each with its size before it, until a deadline."""

    def __init__(self, peer: str, connection: socket.socket, deadline_s: float) -> None:
        self._peer = peer
        self._connection = connection
        self._deadline_s = deadline_s

    def say(self, message: Message) -> None:
        content = encode(message)
        self._hurry()
        self._connection.sendall(_SIZE.pack(len(content)) + content)

    def hear(self) -> bytes:
        (size,) = _SIZE.unpack(self._exactly(_SIZE.size))
        if not 0 < size <= MAX_BYTES:
            raise ProtocolError(f"{self._peer}: a message of {size} bytes, at most {MAX_BYTES}")
        return self._exactly(size)

    def _exactly(self, num_bytes: int) -> bytes:
        content = b""
        while len(content) < num_bytes:
            self._hurry()
            part = self._connection.recv(num_bytes - len(content))
            if not part:
                raise ConnectionError("it closed the connection without an answer")
            content += part
        return content

    def _hurry(self) -> None:
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._connection.settimeout(left_s)


def _pipe(connection: socket.socket) -> Pipe:
    connection.settimeout(None)
    return TlsPipe(connection) if isinstance(connection, ssl.SSLSocket) else PlainPipe(connection)


def _ask(peer: str, said: _Said, target: TcpMetadata, access: Access, ends: Ends) -> Access:
    """The reader's part."""
    ours = ends.identity.public
    greeting = Greeting(VERSION, secrets.token_bytes(NONCE_BYTES), ours, ends.origin, access)
    said.say(greeting)
    challenge = decode_challenge(peer, said.hear())
    if isinstance(challenge, Denial):
        raise _refusal(peer, challenge)
    key = pair_key(target.token, _shared(peer, ends.identity, target.key))
    expected = proof_of("holder", key, greeting, target.key, challenge.nonce)
    if not hmac.compare_digest(expected, challenge.proof):
        raise PeerRefusedError(peer, "proof", "that of its offer", "another")
    said.say(Proof(proof_of("reader", key, greeting, target.key, challenge.nonce)))
    answer = decode_grant(peer, said.hear())
    if isinstance(answer, Denial):
        raise _refusal(peer, answer)
    return answer.access


def _answer(
    name: str, said: _Said, ours: tuple[TcpMetadata, Access], ends: Ends
) -> tuple[Access, bytes]:
    """The holder's part."""
    metadata, access = ours
    greeting = decode_greeting(name, said.hear())
    if greeting.version != VERSION:
        _deny(name, said, Denial("version", str(VERSION), str(greeting.version)))
    misfit = ends.identity.misfit(greeting.key)
    if misfit is not None:
        _deny(name, said, Denial("key", *misfit))
    nonce = secrets.token_bytes(NONCE_BYTES)
    key = pair_key(metadata.token, _shared(name, ends.identity, greeting.key))
    said.say(Challenge(nonce, proof_of("holder", key, greeting, metadata.key, nonce)))
    expected = proof_of("reader", key, greeting, metadata.key, nonce)
    if not hmac.compare_digest(expected, decode_proof(name, said.hear()).proof):
        _deny(name, said, Denial("proof", "that of the offer", "another"))
    granted = access if greeting.access is Access.WRITE else Access.READ
    said.say(Grant(granted))
    return granted, greeting.key or greeting.origin


def _refusal(peer: str, denial: Denial) -> PeerRefusedError:
    return PeerRefusedError(peer, denial.field, denial.found, denial.expected)


def _deny(name: str, said: _Said, denial: Denial) -> None:
    said.say(denial)
    raise PeerRefusedError(name, denial.field, denial.expected, denial.found)


def _shared(peer: str, identity: Identity, key: bytes) -> bytes:
    try:
        return identity.shared(key)
    except ArgumentError as error:
        raise PeerRefusedError(peer, "key", "a sound one", error.reason) from error
