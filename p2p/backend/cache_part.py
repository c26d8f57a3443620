"""A paged cache, or one layer of it, and where its bytes are in a chunk."""

from collections.abc import Sequence
from dataclasses import dataclass

from p2p.backend.blocks import BlockRows
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

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Starts and lengths of the bytes of it that are copied: all, or those of some heads."""
        chunk, heads = self.cache.chunk, self.heads
        if heads is None or heads.count == chunk.num_heads:
            return [(0, self.num_bytes)]
        first, length = heads.chunk_head * chunk.stride_head, heads.count * chunk.stride_head
        return [(plane * chunk.stride_plane + first, length) for plane in range(chunk.num_planes)]

    def of_slots(self, slots: Sequence[Slot]) -> list[Slot]:
        """Returns what belongs to it of each slot."""
        return [slot[self.start : self.start + self.num_bytes] for slot in slots]

    def gather(self, rows: BlockRows, spans: Sequence[Slot]) -> None:
        """Copies blocks into spans of ``num_bytes``, as `PagedCache.gather`."""
        self.cache.gather(rows, spans, self.heads)

    def scatter(self, spans: Sequence[Slot], rows: BlockRows) -> None:
        """Copies spans of ``num_bytes`` into blocks, as `PagedCache.scatter`."""
        self.cache.scatter(spans, rows, self.heads)
