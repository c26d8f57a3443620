"""What the controller remembers so that it can say why a hit was short. No I/O, no clock.

Bounded: evictions by the bytes of the batches that told of them, which are kept by reference and
looked at only when somebody asks; everything else by number.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum
from itertools import compress
from typing import NamedTuple

import msgspec

from p2p.keys import ChunkKey, Namespace, NamespaceId, split_keys
from p2p.wire.messages import Events, FetchReport, RequestView
from p2p_controller.members import Member

MAX_EVICTION_BYTES = 4 << 20
MAX_GONE = 1024
MAX_REQUESTS = 4096
MAX_NAMESPACES = 1024
_BATCH_BYTES = 512  # of a kept batch besides its blobs
_PER_KEY = 4
_IS_EVICT = bytes([1]) + bytes(255)  # of a kind: whether it evicts


class GoneKind(Enum):
    """How an instance's chunks went out of sight, all at once."""

    SILENT = "fell silent"
    FORGOTTEN = "was forgotten"
    RESTARTED = "restarted"
    REGISTERED_AGAIN = "registered again"
    LEFT = "left"
    CLEARED = "was ordered to clear"


class Gone(NamedTuple):
    """An instance's chunks went out of sight; which ones is not known any more.

    Attributes:
        num_chunks: so many it held then.
    """

    at_s: float
    instance: str
    namespace_id: NamespaceId
    kind: GoneKind
    num_chunks: int


class Eviction(NamedTuple):
    """One instance dropped one chunk."""

    at_s: float
    instance: str
    is_of_snapshot: bool = False  # it lacked the chunk: when it went is not known


class _Batch(NamedTuple):
    at_s: float
    namespace_id: NamespaceId
    events: Events
    is_of_snapshot: bool = False


@dataclass(frozen=True, slots=True)
class _Request:
    at_s: float
    instance: str
    namespace_id: NamespaceId
    report: FetchReport

    def view(self, now_s: float) -> RequestView:
        passed_ms = max(0, int((now_s - self.at_s) * 1000))
        report = self.report
        troubles = tuple(
            msgspec.structs.replace(one, age_ms=one.age_ms + passed_ms) for one in report.troubles
        )
        report = msgspec.structs.replace(
            report, age_ms=report.age_ms + passed_ms, troubles=troubles
        )
        return RequestView(instance=self.instance, namespace=self.namespace_id, report=report)


class Evidence:
    """Evictions, losses and reported fetches of one epoch.

    Attributes:
        gone: oldest first.
        namespaces: that were ever registered, by id.
        evictions_since_s: none before this are recorded; None as long as none was dropped.
    """

    def __init__(self) -> None:
        self.gone: deque[Gone] = deque(maxlen=MAX_GONE)
        self.namespaces: dict[NamespaceId, Namespace] = {}
        self.evictions_since_s: float | None = None
        self._batches: deque[_Batch] = deque()
        self._num_bytes = 0
        self._requests: deque[_Request] = deque(maxlen=MAX_REQUESTS)
        self._last_report: dict[tuple[str, int], int] = {}

    # ------------------------------------------------------------------ what happens

    def note_namespace(self, namespace: Namespace) -> None:
        """An instance has registered with this namespace."""
        self.namespaces[namespace.id] = namespace
        if len(self.namespaces) > MAX_NAMESPACES:
            del self.namespaces[next(iter(self.namespaces))]

    def note_batch(self, member: Member, events: Events, now_s: float) -> None:
        """Keeps a batch that tells of evictions; costs nothing per key."""
        self._keep(_Batch(now_s, member.namespace_id, events))

    def note_snapshot(self, member: Member, lost: Events, now_s: float) -> None:
        """Keeps what a snapshot has left out, in the form of a batch that evicts it."""
        self._keep(_Batch(now_s, member.namespace_id, lost, is_of_snapshot=True))

    def _keep(self, batch: _Batch) -> None:
        self._batches.append(batch)
        self._num_bytes += _size(batch.events)
        while self._num_bytes > MAX_EVICTION_BYTES:
            oldest = self._batches.popleft()
            self._num_bytes -= _size(oldest.events)
            self.evictions_since_s = oldest.at_s

    def note_gone(self, member: Member, kind: GoneKind, now_s: float) -> None:
        """An instance's chunks went out of sight, or are about to."""
        num_chunks = member.feed.live.num_entries
        self.gone.append(Gone(now_s, member.instance, member.namespace_id, kind, num_chunks))

    def note_report(self, member: Member, report: FetchReport, now_s: float) -> bool:
        """Keeps what an instance reports of a fetch; false if it is known."""
        start = (member.instance, member.incarnation)
        if report.number <= self._last_report.get(start, 0):
            return False
        self._last_report.pop(start, None)
        self._last_report[start] = report.number
        if len(self._last_report) > MAX_REQUESTS:
            del self._last_report[next(iter(self._last_report))]
        self._requests.append(_Request(now_s, member.instance, member.namespace_id, report))
        return True

    # ------------------------------------------------------------------ questions

    def evictions_of(
        self, namespace_id: NamespaceId, keys: set[ChunkKey], tenant: str
    ) -> dict[ChunkKey, list[Eviction]]:
        """Returns the last eviction of each key by each instance, newest first, a few per key."""
        found: dict[ChunkKey, list[Eviction]] = {}
        for at_s, batch_namespace, events, is_of_snapshot in reversed(self._batches):
            if batch_namespace != namespace_id or events.tenant not in {"", tenant}:
                continue
            for key in _evicted(events, keys):
                known = found.setdefault(key, [])
                is_new = all(one.instance != events.instance for one in known)
                if is_new and len(known) < _PER_KEY:
                    known.append(Eviction(at_s, events.instance, is_of_snapshot))
        return found

    def requests_of(self, request: str, now_s: float) -> list[RequestView]:
        """Returns what was reported under an id, newest first."""
        return [
            one.view(now_s) for one in reversed(self._requests) if one.report.request == request
        ]

    def requests_for(
        self, namespace_id: NamespaceId, keys: set[ChunkKey], now_s: float, limit: int
    ) -> list[RequestView]:
        """Returns the last fetches that ended before one of these chunks, newest first."""
        found: list[RequestView] = []
        for one in reversed(self._requests):
            if one.namespace_id == namespace_id and one.report.missing in keys:
                found.append(one.view(now_s))
                if len(found) == limit:
                    break
        return found

    def last_requests(
        self, instance: str, now_s: float, limit: int, *, only_short: bool
    ) -> list[RequestView]:
        """Returns the last reported fetches, newest first."""
        wanted = [
            one
            for one in reversed(self._requests)
            if instance in {"", one.instance} and (one.report.missing or not only_short)
        ]
        return [one.view(now_s) for one in wanted[:limit]]


def _size(events: Events) -> int:
    return len(events.kinds) + len(events.keys) + _BATCH_BYTES


def _evicted(events: Events, wanted: set[ChunkKey]) -> set[ChunkKey]:
    """Returns those of some keys that a batch evicts, at the speed of cutting its keys."""
    keys = split_keys(events.keys, events.key_bytes)
    return wanted.intersection(compress(keys, events.kinds.translate(_IS_EVICT)))
