"""An instance's pool in simulated memory, and the truth about what was stored in it.

The truth is kept apart from what the production code believes: which bytes a holder stored under
which key, which slots a transfer may still write, and which were hit by a bit flip at rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from p2p.agent.slots import SlotState, SlotTable
from p2p.backend.actions import ReadId
from p2p.kernels import chunk_digest
from p2p.keys import ChunkKey
from p2p.layout import Layout
from tests.sim.clock import require

if TYPE_CHECKING:
    import numpy.typing as npt

LAYOUT = Layout(64, 8, 256, "uint8", block_tokens=1, chunk_tokens=4)  # as it is told to others
CHUNK_BYTES = LAYOUT.chunk_bytes  # 1 MiB, of which reads are measured
HELD_BYTES = 64  # what there is of it
_LEAF_BYTES = 32
PIECES = 2  # of a chunk: what arrives at once


@dataclass(frozen=True, slots=True)
class Stored:
    """What lies in a slot since it was committed."""

    key: ChunkKey
    content: bytes
    generation: int


class Pool:
    """Slots of a few bytes.

    Args:
        num_slots: of the pool.

    Attributes:
        bytes: of every slot.
        writers: the reads that may still write, by slot.
        rotten: slots with a bit that flipped at rest.
        keys: of everything that was ever stored here.
    """

    def __init__(self, num_slots: int) -> None:
        self.bytes: npt.NDArray[np.uint8] = np.zeros((num_slots, HELD_BYTES), np.uint8)
        self.writers: dict[int, ReadId] = {}
        self.rotten: set[int] = set()
        self.keys: set[ChunkKey] = set()
        self._stored: dict[int, Stored] = {}

    def fill(self, slot: int, content: bytes) -> None:
        """Writes a whole chunk."""
        require(slot not in self.writers, "a put went into a slot that a transfer may still write")
        self.bytes[slot] = np.frombuffer(content, np.uint8)
        self.rotten.discard(slot)

    def digest(self, key: ChunkKey, slot: int) -> int:
        """Returns the production digest of what lies in a slot."""
        return chunk_digest(key, self.bytes[slot], _LEAF_BYTES)

    def content(self, slot: int) -> bytes:
        """Returns what lies in a slot."""
        return bytes(self.bytes[slot])

    def store(self, slot: int, stored: Stored) -> None:
        """Notes the truth about a slot that was committed."""
        self._stored[slot] = stored
        self.keys.add(stored.key)

    def stored(self, slot: int, slots: SlotTable) -> Stored | None:
        """Returns what was stored in a slot, None if it is not that chunk's any more."""
        stored = self._stored.get(slot)
        if stored is None or slots.generation(slot) != stored.generation:
            return None
        return stored if state_of(slots, slot) is SlotState.READY else None

    def rot(self, slot: int) -> None:
        """Flips a bit at rest."""
        self.bytes[slot, 5] ^= 0x10
        self.rotten.add(slot)

    def open_for(self, read_id: ReadId, local: Sequence[int]) -> None:
        """A transfer may write into slots from now on."""
        for slot in local:
            require(slot not in self.writers, "a read goes into a slot that another may write")
            self.writers[slot] = read_id
            self.rotten.discard(slot)

    def close_for(self, read_id: ReadId, local: Sequence[int]) -> None:
        """A transfer can no longer write."""
        for slot in local:
            if self.writers.get(slot) == read_id:
                del self.writers[slot]

    def check_writers(self, slots: SlotTable) -> None:
        """No slot that may still be written is free or holds a chunk."""
        for slot in self.writers:
            state = state_of(slots, slot)
            is_kept = state in {SlotState.FILLING, SlotState.QUARANTINED}
            require(is_kept, f"slot {slot} is {state.value} while a transfer may write it")


def state_of(slots: SlotTable, slot: int) -> SlotState:
    """Returns the state of a slot."""
    return slots._states[slot]
