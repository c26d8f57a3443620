"""A paged cache, or one layer of it, and where its bytes are in a chunk."""

from collections.abc import Sequence
from dataclasses import dataclass

from p2p.backend.blocks import BlockRows
from p2p.backend.pool import SlotBytes
from p2p.kernels import HeadRange, PagedCache, Slot


@dataclass(frozen=True, slots=True)
class CachePart:
    """What is copied at once.

    Attributes:
        cache: the pages.
        heads: which heads are copied; None for all.
        start: the first byte of a chunk that belongs to it.
    """

    cache: PagedCache
    heads: HeadRange | None
    start: int

    @property
    def num_bytes(self) -> int:
        """Bytes of a chunk that belong to it."""
        return self.cache.chunk.chunk_bytes

    def of_slots(self, slots: Sequence[SlotBytes]) -> list[SlotBytes]:
        """Returns what belongs to it of each slot."""
        return [slot[self.start : self.start + self.num_bytes] for slot in slots]

    def gather(self, rows: BlockRows, spans: Sequence[Slot]) -> None:
        """Copies blocks into spans of ``num_bytes``, as `PagedCache.gather`."""
        self.cache.gather(rows, spans, self.heads)

    def scatter(self, spans: Sequence[Slot], rows: BlockRows) -> None:
        """Copies spans of ``num_bytes`` into blocks, as `PagedCache.scatter`."""
        self.cache.scatter(spans, rows, self.heads)
