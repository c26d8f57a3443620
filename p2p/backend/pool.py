"""The memory of one rank's pool, by slots."""

import numpy as np
import numpy.typing as npt

from p2p.agent.memory import HostArena
from p2p.errors import ConfigError
from p2p.kernels import chunk_digest
from p2p.keys import ChunkKey
from p2p.layout import Layout
from p2p.regions import Region

SlotBytes = npt.NDArray[np.uint8]


class Pool:
    """Registered memory cut into slots of one chunk each.

    Args:
        pool_bytes: memory to take; what does not fill a slot is not used.
        layout: of the chunks.

    Raises:
        ConfigError: less than one chunk, or more than the machine has.
    """

    def __init__(self, pool_bytes: int, layout: Layout) -> None:
        slot_bytes = layout.chunk_bytes
        if pool_bytes < slot_bytes:
            reason = f"less than one chunk of {slot_bytes} bytes"
            raise ConfigError("backend.pool_bytes", pool_bytes, reason)
        self.slot_bytes = slot_bytes
        num_slots = pool_bytes // slot_bytes
        self._arena = HostArena(num_slots * slot_bytes)
        segment_region = self._arena.region(slot_bytes)
        self.region = Region(segment_region.segments, num_slots)
        self.num_slots = num_slots

    def view(self, slot: int) -> SlotBytes:
        """Returns the bytes of a slot, without a copy."""
        return self._arena.view(slot * self.slot_bytes, self.slot_bytes)

    def digest(self, key: ChunkKey, slot: int) -> int:
        """Returns the digest of what lies in a slot, as the chunk of a key.

        The whole shard is one leaf: above 64 KiB it is read with the interpreter lock released.
        """
        return chunk_digest(key, self.view(slot), self.slot_bytes)

    def close(self) -> None:
        """Drops the views; the memory itself stays, since peers may still read it."""
        self._arena.close()
