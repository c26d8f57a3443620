"""What the controller orders instances to do, and what they report of it. No I/O.

An order is repeated in the answers to heartbeats until a heartbeat reports it. Carrying one out
twice does no more than once. Keys of one order are chunks of one prompt, in order.
"""

from enum import Enum
from typing import Annotated

import msgspec

from p2p.keys import NamespaceId
from p2p.wire.messages.base import KeyBlob, KeyBytes, Millis, Tenant, Text, Unsigned

MAX_ORDERS = 64
MAX_OPERATION_KEYS = 1 << 14
LONGEST_PIN_MS = 366 * 86_400_000

PinMillis = Annotated[int, msgspec.Meta(ge=0, le=LONGEST_PIN_MS)]
Detail = Annotated[str, msgspec.Meta(max_length=512)]


class _Order(msgspec.Struct, frozen=True, kw_only=True, tag_field="order", omit_defaults=True):
    """What all orders have.

    Attributes:
        id: never given before, by any start of a controller.
        namespace: of the chunks; an instance of another one does nothing.
        ttl_ms: counted from when the instance first hears of it; what is not done by then is left.
    """

    id: Unsigned
    namespace: NamespaceId
    ttl_ms: Millis = 0


class _KeysOrder(_Order, frozen=True, kw_only=True):
    """An order about certain chunks.

    Attributes:
        keys: of the chunks, at most `MAX_OPERATION_KEYS`.
        tenant: chunks that it may not read are not meant.
    """

    keys: KeyBlob
    key_bytes: KeyBytes
    tenant: Tenant = ""


class DropAll(_Order, frozen=True, kw_only=True):
    """Drop every chunk, pinned ones too; those in use as soon as they are not."""


class DropKeys(_KeysOrder, frozen=True, kw_only=True):
    """Drop these chunks and all that follow on any of them, pinned ones too."""


class EvictKeys(_KeysOrder, frozen=True, kw_only=True):
    """Drop exactly these chunks, but for pinned ones.

    Attributes:
        heir: only what this instance has and keeps at that moment; empty for all.
    """

    heir: Annotated[str, msgspec.Meta(max_length=128)] = ""


class PinKeys(_KeysOrder, frozen=True, kw_only=True):
    """Keep these chunks from being evicted, for so long; 0 is until they are unpinned."""

    pin_ms: PinMillis = 0


class UnpinKeys(_KeysOrder, frozen=True, kw_only=True):
    """These chunks may be evicted again."""


class TakeKeys(_KeysOrder, frozen=True, kw_only=True):
    """Fetch these chunks of one prompt, from its first one on.

    Attributes:
        source: read from this instance; empty for whoever is best.
        hold_ms: keep what was fetched for so long at least, since it is about to go elsewhere.
    """

    source: Annotated[str, msgspec.Meta(max_length=128)] = ""
    hold_ms: Millis = 0


class GiveAll(_Order, frozen=True, kw_only=True):
    """Give everything to peers; leave the answers of the directory once they have it."""


Order = DropAll | DropKeys | EvictKeys | PinKeys | UnpinKeys | TakeKeys | GiveAll


class LeftReason(Enum):
    """Why something was not done for some chunks."""

    NOT_HERE = "not_here"
    NOT_AT_TARGET = "not_at_target"
    IN_USE = "in_use"
    PINNED = "pinned"
    PIN_LIMIT = "pin_limit"
    NO_ROOM = "no_room"
    FETCH_SHORT = "fetch_short"
    UNKNOWN_SOURCE = "unknown_source"
    TIME_OVER = "time_over"
    OTHER_NAMESPACE = "other_namespace"
    MALFORMED = "malformed"
    CLOSING = "closing"
    SILENT = "silent"
    GONE = "gone"
    NO_REPORT = "no_report"
    TOO_MANY_ORDERS = "too_many_orders"


class Left(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Chunks for which something was not done, and why.

    Attributes:
        num_chunks: how many; 0 where that is not known.
        detail: names and numbers behind the reason.
    """

    reason: LeftReason
    num_chunks: Unsigned = 0
    detail: Detail = ""


class OrderResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of an order.

    Attributes:
        id: of the order.
        num_chunks: chunks for which it was done; of `TakeKeys`: leading chunks that are here now.
        left: those for which it was not.
    """

    id: Unsigned
    num_chunks: Unsigned = 0
    left: Annotated[tuple[Left, ...], msgspec.Meta(max_length=16)] = ()


class Deed(Enum):
    """What an instance was asked to do, as reports name it."""

    DROPPED = "dropped"
    EVICTED = "evicted"
    PINNED = "pinned"
    UNPINNED = "unpinned"
    TOOK = "took"
    GAVE = "gave"


class InstanceReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one instance did of an operation.

    Attributes:
        did: what it was asked for.
        num_chunks: chunks for which it was done.
        left: chunks for which it was not, and why; empty if all was done.
    """

    instance: Text
    did: Deed
    num_chunks: Unsigned = 0
    left: tuple[Left, ...] = ()
