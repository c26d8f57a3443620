"""Chunks that many want at once: who is sent elsewhere, where to, and when a copy is due.

Few readers are served a long run, so that each of them soon has it and serves others: the rest is
told to try those readers, chunk by chunk, and so readers form a tree by themselves. A prompt
from which many were sent away is given to a peer that has not asked for it. No I/O, no clock, no
threads.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from p2p.backend.handover import chain_of
from p2p.backend.index import Index, IndexEntry
from p2p.backend.speeds import Rate

if TYPE_CHECKING:
    from p2p.backend.handover import Chain
    from p2p.keys import ChunkKey

_MAX_READERS = 8  # remembered of each chunk
_MAX_SOUGHT = 16  # readers that are noticed by one search, at a time
_MAX_HEATS = 1024


@dataclass(frozen=True, slots=True)
class HotLimits:
    """When a chunk counts as crowded, and as hot.

    Attributes:
        readers_per_chunk: readers that are served the same chunk at a time; 0 is all.
        memory_s: so long after the last of them, or while they still read, others are sent to them.
        least_bytes: a smaller request is served in any case.
        long_s: so is one that a reader reads in less time, by what earlier readers took.
        idle_s: a holder that has lent nothing for so long serves whoever comes.
        refusals: so many readers sent away from a prompt within ``window_s`` make it hot.
        window_s: of that.
        pause_s: between two copies of the same prompt.
    """

    readers_per_chunk: int = 8
    memory_s: float = 10.0
    least_bytes: int = 64 << 20
    long_s: float = 0.2
    idle_s: float = 0.25
    refusals: int = 8
    window_s: float = 10.0
    pause_s: float = 30.0


@dataclass(slots=True)
class _Heat:
    """Readers that were sent away from one prompt, and when each was the last time."""

    sent_away_s: dict[str, float] = field(default_factory=dict)
    copied_s: float = float("-inf")


@dataclass(slots=True, eq=False)
class Search:
    """Chunks that are being fetched here, and who has asked here for them.

    Attributes:
        keys: the chunks.
        names: the readers; `take` empties it.
    """

    keys: frozenset["ChunkKey"]
    names: dict[str, None] = field(default_factory=dict)

    def take(self) -> list[str]:
        """Returns the readers that have asked since the last call."""
        names, self.names = list(self.names), {}
        return names


class HotChunks:
    """The crowd at one holder.

    Args:
        limits: see `HotLimits`.

    Attributes:
        copies: chunks of which a peer should have a copy, for the owner to take.
        busy_s: when something was lent the last time; the owner keeps it up to date.
    """

    def __init__(self, limits: HotLimits) -> None:
        self.limits = limits
        self.copies: deque[Chain] = deque(maxlen=64)
        self.busy_s = float("-inf")
        self._rate = Rate()  # at which one reader reads
        self._heats: OrderedDict[ChunkKey, _Heat] = OrderedDict()  # by the last chunk wanted
        self._sent_away_s: OrderedDict[str, float] = OrderedDict()  # by reader
        self._searches: list[Search] = []

    def is_long(self, num_bytes: int, reader: str, now_s: float) -> bool:
        """Returns whether a request of so many bytes can wait for other readers.

        The rest of what a reader was sent away with can, too; what is served in a moment can not.
        """
        if not self.limits.readers_per_chunk:
            return False
        rate = self._rate.value(now_s)
        if rate is not None and num_bytes < rate * self.limits.long_s:
            return False
        sent_away_s = self._sent_away_s.get(reader, float("-inf"))
        return num_bytes >= self.limits.least_bytes or now_s <= sent_away_s + self.limits.memory_s

    def search(self, keys: Sequence["ChunkKey"]) -> Search:
        """A long run is being fetched here: whoever asks for it is noted until `end`."""
        search = Search(frozenset(keys))
        self._searches.append(search)
        return search

    def end(self, search: Search) -> None:
        """The fetch is over."""
        self._searches.remove(search)

    def note_seeker(self, keys: Sequence["ChunkKey"], reader: str) -> None:
        """A reader asks here for a long run."""
        for search in self._searches if keys else ():
            is_same = keys[0] in search.keys or keys[-1] in search.keys
            if is_same and len(search.names) < _MAX_SOUGHT:
                search.names[reader] = None

    def fellows(self, entries: Sequence[IndexEntry], reader: str, now_s: float) -> tuple[str, ...]:
        """Returns who else was lent some of these chunks lately and has, or will have, them."""
        names: dict[str, None] = {}
        for entry in entries:
            if entry.readers and not self._is_forgotten(entry, now_s):
                names.update(dict.fromkeys(entry.readers))
        names.pop(reader, None)
        return tuple(names)[:_MAX_READERS]

    def served(self, num_bytes: int, seconds: float, now_s: float) -> None:
        """A reader gave back so many bytes after so long."""
        self._rate.note(num_bytes, max(seconds, 1e-6), now_s)

    def is_crowded(self, entry: IndexEntry, reader: str, now_s: float) -> bool:
        """Returns whether a chunk was lent to enough others lately, who can lend it now."""
        if len(entry.readers) < self.limits.readers_per_chunk or reader in entry.readers:
            return False
        return not self._is_forgotten(entry, now_s)

    def lend(self, entries: Sequence[IndexEntry], reader: str, now_s: float) -> None:
        """Chunks of a long run are lent to a reader, who will soon have them."""
        for entry in entries:
            if self._is_forgotten(entry, now_s):
                entry.readers = ()
            if reader not in entry.readers:
                entry.readers = (reader, *entry.readers[: _MAX_READERS - 1])
                entry.lent_s = now_s

    def send_away(
        self, index: Index, wanted: Sequence[IndexEntry | None], reader: str, now_s: float
    ) -> None:
        """A reader was told to try elsewhere; notes when that happens to too many of them.

        Args:
            index: what is here.
            wanted: all that the reader asked for.
            reader: its instance.
            now_s: the time.
        """
        self._note_sent_away(reader, now_s)
        last = next((entry for entry in reversed(wanted) if entry is not None), None)
        if last is None:
            return
        heat = self._heats.setdefault(last.key, _Heat())
        self._heats.move_to_end(last.key)
        while len(self._heats) > _MAX_HEATS:
            self._heats.popitem(last=False)
        heat.sent_away_s[reader] = now_s
        since_s = now_s - self.limits.window_s
        heat.sent_away_s = {r: at_s for r, at_s in heat.sent_away_s.items() if at_s >= since_s}
        is_due = now_s >= heat.copied_s + self.limits.pause_s
        if len(heat.sent_away_s) < self.limits.refusals or not is_due:
            return
        chain = chain_of(index, last)
        if chain is not None:
            heat.copied_s = now_s
            heat.sent_away_s.clear()
            self.copies.append(chain)

    def _note_sent_away(self, reader: str, now_s: float) -> None:
        self._sent_away_s[reader] = now_s
        self._sent_away_s.move_to_end(reader)
        while len(self._sent_away_s) > _MAX_HEATS:
            self._sent_away_s.popitem(last=False)

    def _is_forgotten(self, entry: IndexEntry, now_s: float) -> bool:
        """True if a chunk's earlier readers are no reason any more to send others to them."""
        is_old = now_s > entry.lent_s + self.limits.memory_s
        is_idle = now_s > self.busy_s + self.limits.idle_s
        return entry.num_leases == 0 and (is_old or is_idle)
