"""Why a hit was short: what instances report of their fetches, and what people ask. No I/O."""

from enum import Enum
from typing import Annotated

import msgspec

from p2p.keys import MAX_KEY_BYTES
from p2p.wire.messages.base import (
    KeyBlob,
    KeyBytes,
    Message,
    Millis,
    Name,
    Tenant,
    Text,
    Unsigned,
)

MAX_REPORTS = 64
MAX_TROUBLES = 16
MAX_FINDINGS = 512
RequestName = Annotated[str, msgspec.Meta(max_length=128)]
ReasonName = Annotated[str, msgspec.Meta(max_length=32)]


class Trouble(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went wrong with one holder in one fetch.

    Attributes:
        instance: the holder.
        reason: a `ShortReason` of the backend, as text.
        age_ms: when, before the report was sent.
        field: that differs, where the holder refused.
        ours: the reader's value of it.
        theirs: the holder's.
    """

    instance: Name
    reason: ReasonName
    age_ms: Millis = 0
    detail: Text = ""
    field: Text = ""
    ours: Text = ""
    theirs: Text = ""


class FetchReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one fetch, or of one question where a prompt is.

    Attributes:
        number: grows within an incarnation; a number that is known was sent twice.
        request: its id.
        num_keys: chunks asked for.
        num_local: leading chunks that were here.
        num_delivered: chunks of the prefix that was delivered (or located).
        reason: why there are not more, a `ShortReason` of the backend as text.
        missing: key of the first chunk that was not delivered.
        age_ms: when it ended, before the report was sent.
        took_ms: how long it took.
        troubles: what went wrong with each holder.
    """

    number: Unsigned
    request: RequestName
    num_keys: Unsigned
    num_delivered: Unsigned
    reason: ReasonName
    num_local: Unsigned = 0
    tenant: Tenant = ""
    detail: Text = ""
    missing: Annotated[bytes, msgspec.Meta(max_length=MAX_KEY_BYTES)] = b""
    age_ms: Millis = 0
    took_ms: Millis = 0
    troubles: Annotated[tuple[Trouble, ...], msgspec.Meta(max_length=MAX_TROUBLES)] = ()


class FetchReports(Message, frozen=True, kw_only=True):
    """An instance's last fetches. Nobody waits for the answer; what gets lost is lost."""

    instance: Name
    incarnation: Unsigned
    epoch: Unsigned
    reports: Annotated[tuple[FetchReport, ...], msgspec.Meta(max_length=MAX_REPORTS)]


class Why(Enum):
    """Why a chunk was not delivered; those of a fetch have the backend's values."""

    COMPLETE = "complete"
    NO_HOLDER = "no_holder"
    DIRECTORY_PARTIAL = "directory_partial"
    NAMESPACE_DIFFERS = "namespace_differs"
    LAYOUT_DIFFERS = "layout_differs"
    OTHER_TENANT = "other_tenant"
    EVICTED = "evicted"
    HOLDER_SILENT = "holder_silent"
    HOLDER_GONE = "holder_gone"
    HELD_BEHIND_GAP = "held_behind_gap"
    CONTROLLER_SILENT = "controller_silent"
    PEER_SILENT = "peer_silent"
    PEER_REFUSED = "peer_refused"
    PEER_BUSY = "peer_busy"
    LINK_FAILED = "link_failed"
    LINK_SLOW = "link_slow"
    EVICTED_AT_HOLDER = "evicted_at_holder"
    LEASE_LOST = "lease_lost"
    READ_FAILED = "read_failed"
    READ_STALLED = "read_stalled"
    DIGEST_MISMATCH = "digest_mismatch"
    POOL_FULL = "pool_full"
    RECOMPUTE_CHOSEN = "recompute_chosen"
    BUDGET_SPENT = "budget_spent"
    CLOSED = "closed"
    UNKNOWN = "unknown"


class Explain(Message, frozen=True, kw_only=True):
    """Why is not all of this prompt to be had, or why was that request short?

    Attributes:
        namespace: of the keys; empty for that of ``instance``, or of the request.
        instance: the asker, whose layout decides who can be read.
        request: id of a request that an instance reported; without keys, its first missing chunk
            is looked up.
    """

    namespace: Annotated[str, msgspec.Meta(max_length=128)] = ""
    keys: KeyBlob = b""
    key_bytes: KeyBytes = 32
    instance: Annotated[str, msgspec.Meta(max_length=128)] = ""
    tenant: Tenant = ""
    request: RequestName = ""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One piece of recorded evidence.

    Attributes:
        position: first chunk of the prompt that it concerns.
        count: consecutive chunks that it concerns.
        why: what it says.
        instance: who held, evicted, refused, or asked.
        field: that differs.
        ours: the asker's value of it.
        theirs: the instance's.
        age_ms: how long ago; None where it is so now, and since when is not recorded.
        request: of which fetch this was reported.
    """

    position: Unsigned
    count: Unsigned
    why: Why
    instance: str = ""
    field: str = ""
    ours: str = ""
    theirs: str = ""
    age_ms: Unsigned | None = None
    detail: str = ""
    request: str = ""


class RequestView(msgspec.Struct, frozen=True, kw_only=True):
    """A reported fetch; ``report.age_ms`` counts from now."""

    instance: str
    namespace: str
    report: FetchReport


class Explained(Message, frozen=True, kw_only=True):
    """Answer to `Explain`.

    Attributes:
        num_keys: chunks of the prompt.
        num_held: leading chunks that are held now, by somebody whom the asker can read.
        first: position of the first chunk that was looked up.
        findings: by position, the most telling first.
        more: findings that are left out.
        requests: what instances reported of the request, or of this prompt; newest first.
        evidence_ms: evictions are recorded back to here.
        partial: the directory is still being filled after a restart.
    """

    num_keys: Unsigned
    num_held: Unsigned
    first: Unsigned = 0
    findings: tuple[Finding, ...] = ()
    more: Unsigned = 0
    requests: tuple[RequestView, ...] = ()
    evidence_ms: Unsigned = 0
    partial: bool = False


class ListRequests(Message, frozen=True, kw_only=True):
    """Which fetches were reported last?

    Attributes:
        instance: only of this one; empty for all.
        only_short: leave out those that delivered everything.
        limit: as many at most.
    """

    instance: Annotated[str, msgspec.Meta(max_length=128)] = ""
    only_short: bool = True
    limit: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 50


class RequestList(Message, frozen=True, kw_only=True):
    """Answer to `ListRequests`, newest first."""

    requests: tuple[RequestView, ...]
