"""What all messages share: field types with their limits, the base struct, refusals. No I/O."""

from enum import Enum
from typing import Annotated, NewType

import msgspec

from p2p.keys import MAX_KEY_BYTES, MIN_KEY_BYTES
from p2p.regions import Region

PROTOCOL_VERSION = 1
MAX_KEYS = 1 << 16

LeaseToken = NewType("LeaseToken", int)
Incarnation = NewType("Incarnation", int)
Epoch = NewType("Epoch", int)

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Text = Annotated[str, msgspec.Meta(max_length=4096)]
EndpointAddress = Annotated[str, msgspec.Meta(min_length=6, max_length=256)]
Unsigned = Annotated[int, msgspec.Meta(ge=0)]
Millis = Annotated[int, msgspec.Meta(ge=0, le=86_400_000)]
KeyBytes = Annotated[int, msgspec.Meta(ge=MIN_KEY_BYTES, le=MAX_KEY_BYTES)]
KeyBlob = Annotated[bytes, msgspec.Meta(max_length=MAX_KEYS * MAX_KEY_BYTES)]
Kinds = Annotated[bytes, msgspec.Meta(max_length=MAX_KEYS)]
Tenant = Annotated[str, msgspec.Meta(max_length=128)]


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """Base of all messages; the tag is the struct's name."""


class MeasuredRate(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody's reads over a channel have brought at best lately.

    Attributes:
        is_near: from peers on the same host; else from others.
        bytes_per_s: over all links to one peer.
    """

    is_near: bool
    bytes_per_s: Unsigned


class ProcessPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where a process runs: what decides whether the kernel copies between two of them.

    Attributes:
        boot: the host's boot id.
        pid_namespace: in which the kernel names it.
        network_namespace: in which its sockets are.
        user: under whom.
    """

    boot: Annotated[str, msgspec.Meta(max_length=128)]
    pid_namespace: Annotated[str, msgspec.Meta(max_length=128)]
    network_namespace: Annotated[str, msgspec.Meta(max_length=128)]
    user: Unsigned


class ChannelOffer(msgspec.Struct, frozen=True, kw_only=True):
    """What a rank tells a peer so that the peer can connect to it.

    Attributes:
        channel: name of the channel, such as ``nixl``.
        metadata: the channel's own bytes, opaque to everyone else.
        region: the memory that is served.
        measured: what whoever offers it has read over it.
    """

    channel: Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
    metadata: Annotated[bytes, msgspec.Meta(max_length=1 << 20)]
    region: Region
    measured: Annotated[tuple[MeasuredRate, ...], msgspec.Meta(max_length=4)] = ()


class RankOffer(msgspec.Struct, frozen=True, kw_only=True):
    """One rank's channels, best first.

    Attributes:
        place: where it runs.
    """

    rank: Annotated[int, msgspec.Meta(ge=0, le=1 << 16)]
    channels: Annotated[tuple[ChannelOffer, ...], msgspec.Meta(min_length=1, max_length=16)]
    place: ProcessPlace | None = None


class RefusalCode(Enum):
    """Why a request was turned down."""

    MALFORMED = "malformed"
    VERSION = "version"
    UNKNOWN_INSTANCE = "unknown_instance"
    STALE_INCARNATION = "stale_incarnation"
    NAMESPACE = "namespace"
    LAYOUT = "layout"
    LEASE_LOST = "lease_lost"
    CLOSING = "closing"
    LIMIT = "limit"


class Refusal(Message, frozen=True, kw_only=True):
    """No, and why.

    Attributes:
        code: the kind of refusal.
        field: the field that differs or does not fit.
        ours: the refuser's value.
        theirs: the asker's value.
    """

    code: RefusalCode
    field: Text = ""
    ours: Text = ""
    theirs: Text = ""


class Done(Message, frozen=True, kw_only=True):
    """Yes, and there is nothing to add."""
