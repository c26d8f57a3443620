"""Between an instance and the controller: membership, index changes, who holds what. No I/O."""

from enum import Enum
from typing import Annotated

import msgspec

from p2p.keys import Namespace
from p2p.layout import Layout
from p2p.wire.messages.base import (
    EndpointAddress,
    KeyBlob,
    KeyBytes,
    Kinds,
    Message,
    Millis,
    Name,
    Tenant,
    Text,
    Unsigned,
)
from p2p.wire.messages.orders import MAX_ORDERS, Order, OrderResult

MAX_PAGES_UNDER_WAY = 4


class RankEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where one rank of an instance is reached.

    Attributes:
        rank: its number in the instance.
        address: of the process that answers for it.
        metadata_version: of its agents' metadata; what was swapped under a lower one is void.
    """

    rank: Annotated[int, msgspec.Meta(ge=0, le=1 << 16)]
    address: EndpointAddress
    metadata_version: Unsigned = 0


class Register(Message, frozen=True, kw_only=True):
    """An instance reports for duty; its directory entries start empty.

    Attributes:
        world_size: number of its ranks.
        ranks: all of them, in order; empty if ``address`` answers for each.
    """

    instance: Name
    incarnation: Unsigned
    namespace: Namespace
    layout: Layout
    address: EndpointAddress
    public_key: Annotated[str, msgspec.Meta(max_length=40)] = ""
    host: Text = ""
    rack: Text = ""
    world_size: Annotated[int, msgspec.Meta(ge=1, le=1 << 16)] = 1
    ranks: Annotated[tuple[RankEndpoint, ...], msgspec.Meta(max_length=1024)] = ()


class Registered(Message, frozen=True, kw_only=True):
    """Answer to `Register`: the epoch to name in events, and how often to report.

    Attributes:
        pages: of a snapshot that may be under way now; with 0, ask for a turn.
    """

    epoch: Unsigned
    heartbeat_ms: Millis
    expiry_ms: Millis
    pages: Unsigned = MAX_PAGES_UNDER_WAY


class Heartbeat(Message, frozen=True, kw_only=True):
    """Sign of life, with what the controller needs to notice drift.

    Attributes:
        last_seq: sequence number of the last event that the instance ever made.
        view_hash: of all entries of its index after that event, see `p2p.view_hash`.
        load_bytes: bytes that it lends at this moment.
        orders_done: what became of orders, until the controller names them no more.
        num_pinned: chunks that operators keep from eviction.
        is_leaving: whoever asks the directory should read from others from now on.
        beat: number of this heartbeat, which the answer repeats.
    """

    instance: Name
    incarnation: Unsigned
    epoch: Unsigned
    last_seq: Unsigned
    view_hash: Unsigned
    num_chunks: Unsigned = 0
    load_bytes: Unsigned = 0
    orders_done: Annotated[tuple[OrderResult, ...], msgspec.Meta(max_length=MAX_ORDERS)] = ()
    num_pinned: Unsigned = 0
    is_leaving: bool = False
    beat: Unsigned = 0


class EventKind(Enum):
    """What one byte of an event batch says."""

    EVICT = 0
    ADMIT_DEVICE = 1
    ADMIT_HOST = 2


class Events(Message, frozen=True, kw_only=True):
    """A batch of index changes, applied together.

    Attributes:
        first_seq: sequence number of the first event; the others follow without gaps.
        kinds: one byte an event, values of `EventKind`.
        keys: one key an event.
        tenant: of all events in this batch; empty for entries that everybody may read.
    """

    instance: Name
    incarnation: Unsigned
    epoch: Unsigned
    first_seq: Unsigned
    kinds: Kinds
    keys: KeyBlob
    key_bytes: KeyBytes
    tenant: Tenant = ""


class SnapshotPage(Message, frozen=True, kw_only=True):
    """One page of an instance's whole index.

    Attributes:
        sync: number of this snapshot; a higher one supersedes.
        start_seq: events after this number are replayed on top of the snapshot.
        page: 0, 1, 2, …
        last: no page follows.
    """

    instance: Name
    incarnation: Unsigned
    epoch: Unsigned
    sync: Unsigned
    start_seq: Unsigned
    page: Unsigned
    last: bool
    kinds: Kinds
    keys: KeyBlob
    key_bytes: KeyBytes
    tenant: Tenant = ""


class SnapshotTurn(Message, frozen=True, kw_only=True):
    """I have a snapshot to send, and no turn; the answer, a `FeedStatus`, comes when I have it."""

    instance: Name
    incarnation: Unsigned
    epoch: Unsigned


class Want(Enum):
    """What the controller needs from an instance next."""

    NOTHING = "nothing"
    REPLAY = "replay"
    SNAPSHOT = "snapshot"
    REGISTER = "register"


class FeedStatus(Message, frozen=True, kw_only=True):
    """Answer to `Heartbeat`, `Events` and `SnapshotPage`.

    Attributes:
        epoch: the controller's start; acknowledgements of another epoch mean nothing.
        acked_seq: every event up to here is in the directory.
        want: what to send next; `REPLAY` starts after ``acked_seq``.
        sync: the snapshot that ``synced_page`` belongs to, 0 for none.
        synced_page: every page of that snapshot up to here was taken, -1 for none.
        orders: what is to be done, until it was reported; None says nothing of orders, which
            only answers to heartbeats do.
        peers: version of the namespace's list of members; ask for it when it is not the known one.
        pages: of a snapshot that may be under way; with 0, ask for a turn.
        is_leaving: the directory names the instance to nobody, as it has asked.
        beat: of the heartbeat that this answers, if it does.
    """

    epoch: Unsigned
    acked_seq: Unsigned
    want: Want = Want.NOTHING
    sync: Unsigned = 0
    synced_page: int = -1
    orders: Annotated[tuple[Order, ...], msgspec.Meta(max_length=MAX_ORDERS)] | None = None
    peers: Unsigned = 0
    pages: Unsigned = MAX_PAGES_UNDER_WAY
    is_leaving: bool = False
    beat: Unsigned = 0


class Deregister(Message, frozen=True, kw_only=True):
    """The instance leaves; its entries go."""

    instance: Name
    incarnation: Unsigned


class Locate(Message, frozen=True, kw_only=True):
    """Who holds the longest prefix of these keys?

    Attributes:
        instance: the asker, whose layout decides who can be read; empty for people's questions.
        rank: which of the asker's ranks asks; holders then name its counterparts.
    """

    namespace: Name
    keys: KeyBlob
    key_bytes: KeyBytes
    instance: Annotated[str, msgspec.Meta(max_length=128)] = ""
    tenant: Tenant = ""
    rank: Annotated[int, msgspec.Meta(ge=0, le=1 << 16)] | None = None


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """An instance that can be read from.

    Attributes:
        load_bytes: what it lends, by its last heartbeat.
        age_ms: since it was heard; up to 50 ms more, because answers are remembered so long.
        ranks: the counterparts of the rank that asked, in order of heads; empty if none was named.
    """

    instance: Name
    incarnation: Unsigned
    address: EndpointAddress
    public_key: str = ""
    host: str = ""
    rack: str = ""
    load_bytes: Unsigned = 0
    age_ms: Unsigned = 0
    ranks: tuple[RankEndpoint, ...] = ()

    def distance_to(self, host: str, rack: str) -> int:
        """Returns 0 for the same host, 1 for the same rack, 2 for anywhere else."""
        if self.host and self.host == host:
            return 0
        return 1 if self.rack and self.rack == rack else 2


class HolderRun(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Consecutive chunks with the same holders, at each of them in one tier.

    Attributes:
        start: position of the first chunk among the asked keys.
        count: number of chunks.
        holders: indexes into `Located.holders`, best first, 8 at most.
        more: holders beyond those.
        tiers: where each of the holders keeps these chunks, one byte each as in `Events.kinds`;
            empty if that is not known.
    """

    start: Unsigned
    count: Unsigned
    holders: tuple[int, ...]
    more: Unsigned = 0
    tiers: Annotated[bytes, msgspec.Meta(max_length=8)] = b""


class Located(Message, frozen=True, kw_only=True):
    """Answer to `Locate`: runs without gaps from chunk 0 on.

    Attributes:
        partial: the directory is still being filled after a restart; a miss proves nothing.
    """

    epoch: Unsigned
    runs: tuple[HolderRun, ...]
    holders: tuple[Holder, ...]
    partial: bool = False


class ListPeers(Message, frozen=True, kw_only=True):
    """Who else is in my namespace?"""

    instance: Name
    incarnation: Unsigned


class PeerList(Message, frozen=True, kw_only=True):
    """Answer to `ListPeers`: the members that are heard, the asker among them.

    Attributes:
        epoch: the controller's start; versions of another epoch mean nothing.
        version: of this list.
        peers: nearest first; not all of them where there are more than 512.
    """

    epoch: Unsigned
    version: Unsigned
    peers: Annotated[tuple[Holder, ...], msgspec.Meta(max_length=512)]
