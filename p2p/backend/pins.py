"""Chunks that operators keep from eviction: for how long, and how many at most.

A pinned chunk may still be lent, read and dropped on demand. No I/O, no clock, no threads.
"""

import heapq
from typing import TYPE_CHECKING

from p2p.backend.index import Index, IndexEntry

if TYPE_CHECKING:
    from p2p.keys import ChunkKey


class Pins:
    """The operators' pins of one instance.

    Args:
        index: what is here.
        num_max: chunks that may be pinned at a time.
    """

    def __init__(self, index: Index, num_max: int) -> None:
        self.num_max = num_max
        self._index = index
        self._ends: list[tuple[float, ChunkKey]] = []  # a heap; pairs that changed are skipped

    def __len__(self) -> int:
        return self._index.num_kept

    def pin(self, entry: IndexEntry, until_s: float) -> bool:
        """Keeps a chunk until then, whatever was said of it before; false beyond the limit."""
        if entry.kept_until_s is None and len(self) >= self.num_max:
            return False
        self._index.keep_until(entry, until_s)
        if until_s < float("inf"):
            heapq.heappush(self._ends, (until_s, entry.key))
        return True

    def expire(self, now_s: float) -> None:
        """Lets chunks go whose time is over."""
        while self._ends and self._ends[0][0] <= now_s:
            until_s, key = heapq.heappop(self._ends)
            entry = self._index.get(key)
            if entry is not None and entry.kept_until_s == until_s:
                self._index.let_go(entry)
