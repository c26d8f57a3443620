"""The instance's event log: what the directory must still be told.

Every change of the index is an event with a sequence number. Events are kept until the controller
acknowledged them, and sent again from there on demand. Where too many have piled up, they are
dropped and a snapshot of the index takes their place. No I/O, no clock, no threads.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from p2p.backend.index import Index
from p2p.keys import ChunkKey
from p2p.view_hash import VIEW_HASH_MASK, view_hashes
from p2p.wire.messages import EventKind

_HASH_BATCH = 1024


class Event(NamedTuple):
    """One change of the index."""

    kind: EventKind
    key: ChunkKey
    tenant: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive events of one tenant and key length, or one page of a snapshot.

    Attributes:
        first: sequence number of the first event; of a page: its number.
        kinds: one byte an event.
        keys: one blob.
    """

    first: int
    kinds: bytes
    keys: bytes
    key_bytes: int
    tenant: str


class EventFeed:
    """Numbers, keeps and hands out events.

    Args:
        max_kept: unacknowledged events beyond this are dropped; a snapshot repairs that.
        tier: where this instance keeps its chunks; every admission names it.
    """

    def __init__(self, max_kept: int = 1 << 20, tier: EventKind = EventKind.ADMIT_HOST) -> None:
        self.tier = tier
        self.last_seq = 0
        self._max_kept = max_kept
        self._kept: deque[Event] = deque()  # the last one has number last_seq
        self._watched: deque[Event] | None = None
        self._unhashed: list[Event] = []
        self._view_hash = 0

    @property
    def first_kept_seq(self) -> int:
        """Number of the oldest event that is still here."""
        return self.last_seq - len(self._kept) + 1

    @property
    def view_hash(self) -> int:
        """Hash of what the index holds after the last event, see `p2p.view_hash`."""
        self._hash()
        return self._view_hash

    def append(self, kind: EventKind, key: ChunkKey, tenant: str) -> None:
        """Records a change of the index."""
        self.last_seq += 1
        event = Event(kind, key, tenant)
        self._kept.append(event)
        self._unhashed.append(event)
        if self._watched is not None:
            self._watched.append(event)
        if len(self._unhashed) >= _HASH_BATCH:
            self._hash()
        if len(self._kept) > self._max_kept:
            self._kept.popleft()

    def watch(self) -> deque[Event]:
        """Returns a queue of the events from now on, for one who takes them out.

        Nothing else does; beyond ``max_kept`` the oldest are lost.
        """
        self._watched = deque(maxlen=self._max_kept)
        return self._watched

    def acknowledge(self, seq: int) -> None:
        """Forgets events up to and including ``seq``."""
        while self._kept and self.first_kept_seq <= seq:
            self._kept.popleft()

    def has_after(self, seq: int) -> bool:
        """True if every event after ``seq`` is still here."""
        return seq >= self.first_kept_seq - 1

    def batch_after(self, seq: int, max_events: int) -> Batch | None:
        """Returns the next events after ``seq``, which must be here; None if there are none."""
        offset = seq + 1 - self.first_kept_seq
        if offset < 0 or offset >= len(self._kept):
            return None
        events: list[Event] = []
        for number in range(offset, min(offset + max_events, len(self._kept))):
            event = self._kept[number]
            if events and not _fit_together(events[0], event):
                break
            events.append(event)
        return _pack(seq + 1, events)

    def _hash(self) -> None:
        """Hashes many events at once, which costs a tenth of doing so one by one."""
        alike: dict[tuple[int, str, int], list[ChunkKey]] = {}
        for event in self._unhashed:
            sign = -1 if event.kind is EventKind.EVICT else 1
            alike.setdefault((sign, event.tenant, len(event.key)), []).append(event.key)
        self._unhashed.clear()
        for (sign, tenant, key_bytes), keys in alike.items():
            hashes = view_hashes(b"".join(keys), key_bytes, tenant, self.tier.value)
            self._view_hash += sign * int(hashes.sum())
        self._view_hash &= VIEW_HASH_MASK


class Snapshot:
    """All chunks of an index at one moment, cut into pages.

    Args:
        sync: number of this snapshot.
        start_seq: last event before the moment.
        index: what to list; later changes do not show.
        kind: tier under which the chunks are listed.
    """

    PAGE_EVENTS = 8192

    def __init__(self, sync: int, start_seq: int, index: Index, kind: EventKind) -> None:
        self.sync = sync
        self.start_seq = start_seq
        events = [Event(kind, entry.key, tenant) for entry in index for tenant in entry.tenants]
        events.sort(key=lambda event: (event.tenant, len(event.key)))
        self._pages = _paginate(events, self.PAGE_EVENTS)

    @property
    def num_pages(self) -> int:
        """Pages, at least one: an empty index has an empty page."""
        return len(self._pages)

    def page(self, number: int) -> Batch:
        """Returns a page."""
        return self._pages[number]


def _paginate(events: list[Event], page_events: int) -> list[Batch]:
    pages: list[Batch] = []
    page: list[Event] = []
    for event in events:
        if page and (len(page) == page_events or not _fit_together(page[0], event)):
            pages.append(_pack(len(pages), page))
            page = []
        page.append(event)
    pages.append(_pack(len(pages), page))
    return pages


def _fit_together(first: Event, other: Event) -> bool:
    return first.tenant == other.tenant and len(first.key) == len(other.key)


def _pack(first: int, events: Sequence[Event]) -> Batch:
    kinds = bytes(event.kind.value for event in events)
    keys = b"".join(event.key for event in events)
    key_bytes = len(events[0].key) if events else 32
    return Batch(first, kinds, keys, key_bytes, events[0].tenant if events else "")
