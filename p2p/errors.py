"""Every exception of the fabric, arranged by whose fault it is.

A miss is a value and never raised. What is raised here says who caused it (us, a peer, the
bytes on the wire), carries the numbers, and tells whether trying again can help.
No imports, no I/O.
"""


class P2PError(Exception):
    """Root of every error that the fabric raises.

    Attributes:
        can_retry: the same call may succeed later without anyone changing anything.
    """

    can_retry = False


class LocalError(P2PError):
    """The fault lies on this side: configuration, arguments, resources."""


class ConfigError(LocalError):
    """A setting is unknown, malformed or impossible on this machine.

    Args:
        key: the setting's dotted name, as the user wrote it.
        value: what was found there.
        reason: what is wrong with it and what would be right.
    """

    def __init__(self, key: str, value: object, reason: str) -> None:
        super().__init__(f"{key} = {value!r}: {reason}")
        self.key = key
        self.value = value
        self.reason = reason


class ArgumentError(LocalError):
    """A caller passed something that does not fit; the message names the argument and the value."""

    def __init__(self, name: str, value: object, reason: str) -> None:
        super().__init__(f"{name} = {value!r}: {reason}")
        self.name = name
        self.value = value
        self.reason = reason


class ClosedError(LocalError):
    """The object was closed before this call."""


class MemoryUnavailableError(LocalError):
    """Memory could not be allocated or registered with a transport."""


class DeviceError(LocalError):
    """A device of this machine failed while it copied; what it was to write is undefined."""


class PluginMissingError(LocalError):
    """An optional package or a transport plugin that was asked for is not installed."""


class ProtocolError(P2PError):
    """Bytes that came in are not a message of this protocol; they were dropped."""


class PeerError(P2PError):
    """The fault lies with the other side, which is named.

    Args:
        peer: id or address of the other side.
        reason: what happened.
    """

    def __init__(self, peer: str, reason: str) -> None:
        super().__init__(f"{peer}: {reason}")
        self.peer = peer
        self.reason = reason


class PeerUnreachableError(PeerError):
    """No answer came within the deadline, or the connection is gone."""

    can_retry = True


class PeerRefusedError(PeerError):
    """The peer answered no: a field of the handshake differs.

    Args:
        peer: id or address of the peer.
        field: the field that differs.
        ours: our value.
        theirs: the peer's value.
    """

    def __init__(self, peer: str, field: str, ours: object, theirs: object) -> None:
        super().__init__(peer, f"{field} differs: ours {ours!r}, theirs {theirs!r}")
        self.field = field
        self.ours = ours
        self.theirs = theirs


class TransferError(PeerError):
    """A transfer did not end well. Its target memory is undefined until it has quiesced."""

    can_retry = True


class LinkDownError(TransferError):
    """The link's peer is gone: every later transfer on this link fails too; connect anew."""
