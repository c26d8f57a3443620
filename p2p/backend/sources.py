"""Where stored chunks come from: arrays of whole chunks, or an engine's paged cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from p2p.backend.pool import SlotBytes
from p2p.backend.slot_copies import copy_in
from p2p.errors import ArgumentError
from p2p.kernels import PagedCache, Slot
from p2p.layout import Layout


class ChunkSource(Protocol):
    """Chunks that can be copied into slots."""

    @property
    def num_chunks(self) -> int:
        """How many chunks there are."""
        ...

    def copy_to(self, positions: Sequence[int], slots: Sequence[Slot]) -> None:
        """Copies the chunks at some positions into slots; done when it returns."""
        ...


class ArraySource:
    """Whole chunks in the layout's byte order.

    Args:
        chunks: ``[num_chunks, chunk_bytes]`` of uint8, or a sequence of such rows.
        layout: says how long a chunk is.

    Raises:
        ArgumentError: a chunk has another length or dtype.
    """

    def __init__(self, chunks: Sequence[SlotBytes] | SlotBytes, layout: Layout) -> None:
        for number, chunk in enumerate(chunks):
            if chunk.dtype != np.uint8 or chunk.shape != (layout.chunk_bytes,):
                found = f"{chunk.dtype} {chunk.shape}"
                reason = f"the layout's chunks are uint8 ({layout.chunk_bytes},)"
                raise ArgumentError(f"kv[{number}]", found, reason)
        self._chunks = chunks
        self.num_chunks = len(chunks)

    def copy_to(self, positions: Sequence[int], slots: Sequence[Slot]) -> None:
        """Copies chunks into slots."""
        for position, slot in zip(positions, slots, strict=True):
            copy_in(self._chunks[position], slot)


@dataclass(frozen=True)
class PagedSource:
    """Chunks that lie in the blocks of an engine's paged cache.

    Attributes:
        cache: the engine's tensors.
        block_ids: of all chunks in token order, ``cache.blocks_per_chunk`` for each.
    """

    cache: PagedCache
    block_ids: Sequence[int]

    @property
    def num_chunks(self) -> int:
        """Whole chunks that the blocks make."""
        return len(self.block_ids) // self.cache.blocks_per_chunk

    def copy_to(self, positions: Sequence[int], slots: Sequence[Slot]) -> None:
        """Gathers chunks into slots."""
        per_chunk = self.cache.blocks_per_chunk
        blocks = np.asarray(self.block_ids).reshape(-1, per_chunk)[list(positions)]
        self.cache.gather(blocks, slots)
