"""Between two instances: first contact and leases. No I/O."""

from typing import Annotated

import msgspec

from p2p.keys import MAX_KEY_BYTES, MIN_KEY_BYTES, Namespace
from p2p.layout import Layout
from p2p.wire.messages.base import (
    MAX_KEYS,
    KeyBlob,
    KeyBytes,
    Message,
    Millis,
    Name,
    RankOffer,
    Tenant,
    Unsigned,
)


class Hello(Message, frozen=True, kw_only=True):
    """First contact of a reader with a holder: who I am, and what I keep."""

    instance: Name
    incarnation: Unsigned
    namespace: Namespace
    layout: Layout
    ranks: Annotated[tuple[RankOffer, ...], msgspec.Meta(min_length=1, max_length=1024)]


class Welcome(Message, frozen=True, kw_only=True):
    """Answer to `Hello`: how to connect to each of our ranks."""

    instance: Name
    incarnation: Unsigned
    ranks: Annotated[tuple[RankOffer, ...], msgspec.Meta(min_length=1, max_length=1024)]


class LeaseRequest(Message, frozen=True, kw_only=True):
    """Lend me those of these chunks that you have.

    Attributes:
        holder_incarnation: of the holder that the asker means; another one refuses.
        ttl_ms: how long the asker would like them; the holder may grant less.
        is_urgent: half of the asker's time is over: it does not want to be sent elsewhere.
    """

    instance: Name
    incarnation: Unsigned
    holder_incarnation: Unsigned
    namespace: Name
    keys: KeyBlob
    key_bytes: KeyBytes
    ttl_ms: Millis
    tenant: Tenant = ""
    is_urgent: bool = False


class LeaseGranted(Message, frozen=True, kw_only=True):
    """The named slots keep their bytes until the time is over, counted from the grant.

    Attributes:
        token: names this lease; grows with every grant, so it fences late users.
        slots: of the chunks that are lent, in the order in which they were asked for; maybe none.
        generations: of those slots.
        roots: digest of each chunk on each rank, rank-major: ``roots[rank][chunk]``.
        missing: which of the asked chunks are not here. The first ``len(slots) + len(missing)``
            were looked at; the others are more than the asker may borrow at the moment.
        retry_after_ms: when to ask for those again.
        alternates: other holders to try for those meanwhile; where everything is lent, others
            that were lent the same lately and may have some of it.
    """

    token: Unsigned
    ttl_ms: Millis
    slots: tuple[int, ...]
    generations: tuple[int, ...]
    roots: tuple[tuple[int, ...], ...]
    missing: Annotated[tuple[int, ...], msgspec.Meta(max_length=MAX_KEYS)] = ()
    retry_after_ms: Millis = 0
    alternates: tuple[str, ...] = ()


class LeaseBusy(Message, frozen=True, kw_only=True):
    """Not now: this reader holds as much as it may, or too much is lent.

    Attributes:
        retry_after_ms: when to ask again.
        alternates: other holders to try meanwhile.
    """

    retry_after_ms: Millis
    alternates: tuple[str, ...] = ()


class LeaseRenew(Message, frozen=True, kw_only=True):
    """I am still reading."""

    instance: Name
    incarnation: Unsigned
    token: Unsigned
    ttl_ms: Millis


class LeaseRenewed(Message, frozen=True, kw_only=True):
    """The lease lasts this much longer, counted from the answer."""

    token: Unsigned
    ttl_ms: Millis


class LeaseRelease(Message, frozen=True, kw_only=True):
    """I have quiesced. Sent without waiting for an answer."""

    instance: Name
    incarnation: Unsigned
    token: Unsigned


class ReportMismatch(Message, frozen=True, kw_only=True):
    """What I read under this key had another digest. Sent without waiting for an answer."""

    instance: Name
    incarnation: Unsigned
    namespace: Name
    key: Annotated[bytes, msgspec.Meta(min_length=MIN_KEY_BYTES, max_length=MAX_KEY_BYTES)]
    slot: Unsigned
    generation: Unsigned


class ListLeases(Message, frozen=True, kw_only=True):
    """What do you lend, and to whom? Asked by people."""


class LeaseView(msgspec.Struct, frozen=True, kw_only=True):
    """One lease as its holder sees it."""

    reader: str
    incarnation: Unsigned
    token: Unsigned
    num_chunks: Unsigned
    num_bytes: Unsigned
    left_ms: Millis


class LeaseList(Message, frozen=True, kw_only=True):
    """Answer to `ListLeases`, oldest first.

    Attributes:
        more: leases beyond those that are listed.
    """

    leases: Annotated[tuple[LeaseView, ...], msgspec.Meta(max_length=4096)]
    more: Unsigned = 0


class TakeOver(Message, frozen=True, kw_only=True):
    """Please fetch these chunks from me, so that you can lend them as well: I leave, or am busy.

    Attributes:
        keys: of consecutive chunks of one prompt, from its first chunk on.
        ttl_ms: after so long the asker does not wait any more.
        batch: what the asker gives at one time; the prompts of a batch do not displace each other.
    """

    instance: Name
    incarnation: Unsigned
    namespace: Name
    keys: KeyBlob
    key_bytes: KeyBytes
    ttl_ms: Millis
    tenant: Tenant = ""
    batch: Unsigned = 0


class TakenOver(Message, frozen=True, kw_only=True):
    """Answer to `TakeOver`, once the fetch has ended: so many leading chunks are here now.

    Attributes:
        is_full: there are not more because there is no room for them.
    """

    num_chunks: Unsigned
    is_full: bool = False
