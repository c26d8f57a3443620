"""In what order chunks leave a pool: copies that others hold too, then leaves, oldest first.

A spare copy was fetched and is not kept for long: it may go in any place of its prompt, since its
successors here find it at others. Of the rest a chunk whose successor is here stays, because
successors without their prefix help nobody. No I/O, no clock, no threads.
"""

import heapq
from typing import TYPE_CHECKING

from p2p.keys import ChunkKey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from p2p.backend.index import IndexEntry

_Candidates = list[tuple[int, ChunkKey]]  # a heap; stale pairs are skipped


class EvictionOrder:
    """The chunks that nothing needs, the next to go first.

    Args:
        entries: of the index that this belongs to.
    """

    def __init__(self, entries: "Mapping[ChunkKey, IndexEntry]") -> None:
        self._entries = entries
        self._spares: _Candidates = []
        self._leaves: _Candidates = []

    @property
    def num_candidates(self) -> int:
        """Pairs that are remembered, stale ones among them."""
        return len(self._spares) + len(self._leaves)

    def offer(self, entry: "IndexEntry") -> None:
        """Something has changed at a chunk: if it can go now, it goes when its turn comes."""
        if not entry.can_go:
            return
        candidates = self._spares if entry.is_spare else self._leaves
        heapq.heappush(candidates, (entry.used, entry.key))
        if self.num_candidates > 64 + 4 * len(self._entries):
            self._spares = self._sorted(is_spare=True)
            self._leaves = self._sorted(is_spare=False)

    def next(self, used_before: int | None = None) -> "IndexEntry | None":
        """Returns the chunk that is to go now, and forgets it; None if there is none.

        Args:
            used_before: chunks whose last use was not before this stay.
        """
        spare = self._first(self._spares, used_before, is_spare=True)
        return spare or self._first(self._leaves, used_before, is_spare=False)

    def _first(
        self, candidates: _Candidates, used_before: int | None, *, is_spare: bool
    ) -> "IndexEntry | None":
        while candidates and (used_before is None or candidates[0][0] <= used_before):
            used, key = heapq.heappop(candidates)
            entry = self._entries.get(key)
            if entry is None or entry.used != used or entry.is_spare is not is_spare:
                continue
            if entry.can_go:
                return entry
        return None

    def _sorted(self, *, is_spare: bool) -> _Candidates:
        entries = self._entries.values()
        return sorted((e.used, e.key) for e in entries if e.can_go and e.is_spare is is_spare)
