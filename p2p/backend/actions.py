"""What the reader's state machines ask their shell to do, and what a fetch reports.

Plain values: the shell (or the simulator) carries actions out and brings the outcomes back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NewType

from p2p.backend.index import IndexEntry
from p2p.keys import ChunkKey
from p2p.wire.messages import Holder, Locate, Message, Welcome

Tag = NewType("Tag", int)
ReadId = NewType("ReadId", int)


@dataclass(frozen=True, slots=True)
class AskController:
    """Send a question to the controller; its answer comes back under the tag."""

    tag: Tag
    message: Locate


@dataclass(frozen=True, slots=True)
class AskPeer:
    """Send a request to a holder; its answer comes back under the tag."""

    tag: Tag
    holder: Holder
    message: Message


@dataclass(frozen=True, slots=True)
class TellPeer:
    """Send a message to a holder that nobody answers."""

    holder: Holder
    message: Message


@dataclass(frozen=True, slots=True)
class OpenLink:
    """Connect the channel to a holder that welcomed us, replacing an earlier link.

    Attributes:
        timeout_s: what takes longer than this has failed.
    """

    holder: Holder
    welcome: Welcome
    timeout_s: float


@dataclass(frozen=True, slots=True)
class DropPeer:
    """Close the link and the sockets to a holder."""

    instance: str


@dataclass(frozen=True, slots=True)
class DropSocket:
    """Close the socket to a holder that has answered nothing; a link to it stays."""

    instance: str


@dataclass(frozen=True, slots=True)
class Read:
    """Copy a holder's slots onto ours, on every rank.

    `Verify` follows for the same chunks; without keys it does not, and no digest is needed.
    """

    read_id: ReadId
    instance: str
    keys: tuple[ChunkKey, ...]
    local: tuple[int, ...]
    remote: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CancelRead:
    """Give a read up; tell when it has quiesced."""

    read_id: ReadId


@dataclass(frozen=True, slots=True)
class Verify:
    """Compute the digest of every rank's shard of freshly read chunks."""

    read_id: ReadId
    keys: tuple[ChunkKey, ...]
    slots: tuple[int, ...]


Action = (
    AskController
    | AskPeer
    | TellPeer
    | OpenLink
    | DropPeer
    | DropSocket
    | Read
    | CancelRead
    | Verify
)


class Phase(Enum):
    """Named moments of a fetch, for observers and fault tests."""

    AFTER_LOCATE = "after_locate"
    AFTER_LEASE = "after_lease"
    MID_TRANSFER = "mid_transfer"
    BEFORE_VERIFY = "before_verify"
    AFTER_COMMIT = "after_commit"


class ShortReason(Enum):
    """Why a fetch delivered fewer chunks than were asked for."""

    COMPLETE = "complete"
    NO_HOLDER = "no_holder"
    DIRECTORY_PARTIAL = "directory_partial"
    CONTROLLER_SILENT = "controller_silent"
    PEER_SILENT = "peer_silent"
    PEER_REFUSED = "peer_refused"
    PEER_BUSY = "peer_busy"
    LINK_FAILED = "link_failed"
    LINK_SLOW = "link_slow"
    EVICTED = "evicted_at_holder"
    LEASE_LOST = "lease_lost"
    READ_FAILED = "read_failed"
    READ_STALLED = "read_stalled"
    DIGEST_MISMATCH = "digest_mismatch"
    POOL_FULL = "pool_full"
    RECOMPUTE_CHOSEN = "recompute_chosen"
    BUDGET_SPENT = "budget_spent"
    CLOSED = "closed"


@dataclass(slots=True)
class SourceTally:
    """What one holder contributed to a fetch.

    Attributes:
        instance: the holder.
        num_chunks: chunks that arrived from it and passed verification.
        num_bytes: of those chunks, over all ranks.
        read_s: time with at least one read from it under way.
        channel: that moved the bytes; filled in by the shell.
        transport: that the channel really used; filled in by the shell.
    """

    instance: str
    num_chunks: int = 0
    num_bytes: int = 0
    read_s: float = 0.0
    channel: str = ""
    transport: str = ""


@dataclass(slots=True)
class FetchOutcome:
    """What a fetch delivers.

    Attributes:
        entries: of the own index, the verified prefix, pinned until released.
        reason: why the prefix is not longer.
        detail: the numbers or names behind the reason.
        num_local: leading chunks that were here already.
        sources: who contributed, best first.
        phases_s: seconds from the start to each phase's first moment.
        request_id: under which it is reported.
    """

    entries: Sequence[IndexEntry]
    reason: ShortReason
    detail: str = ""
    num_local: int = 0
    sources: list[SourceTally] = field(default_factory=list)
    phases_s: dict[str, float] = field(default_factory=dict)
    request_id: str = ""
