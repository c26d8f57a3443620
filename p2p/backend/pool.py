"""The memory of a pool, by slots: of one rank, or shared by all ranks of an instance."""

import os
from typing import Protocol

import numpy as np
import numpy.typing as npt

from p2p.agent.memory import HostArena
from p2p.agent.shared_arena import ArenaFile, SharedArena
from p2p.errors import ConfigError
from p2p.kernels import Slot, chunk_digest
from p2p.keys import ChunkKey
from p2p.layout import Layout
from p2p.regions import PROBE_BYTES, Probe, Region, probe_content

SlotBytes = npt.NDArray[np.uint8]


class PoolMemory(Protocol):
    """Slots of an instance's pool, in host memory or a device's."""

    @property
    def slot_bytes(self) -> int:
        """Bytes of a slot."""
        ...

    @property
    def num_slots(self) -> int:
        """How many there are."""
        ...

    @property
    def region(self) -> Region:
        """The memory as peers may address it."""
        ...

    def view(self, slot: int) -> Slot:
        """Returns the bytes of a slot, without a copy."""
        ...

    def digest(self, key: ChunkKey, slot: int) -> int:
        """Returns the digest of what lies in a slot, as the chunk of a key. Any thread."""
        ...

    def close(self) -> None:
        """Drops what only we use; peers may still read the memory."""
        ...


def check_pool_bytes(pool_bytes: int, slot_bytes: int) -> None:
    """Raises `ConfigError` for a pool that holds no chunk."""
    if pool_bytes < slot_bytes:
        reason = f"less than one chunk of {slot_bytes} bytes"
        raise ConfigError("backend.pool_bytes", pool_bytes, reason)


class Pool:
    """Registered memory cut into slots of one chunk each.

    With several ranks a slot holds the shard of every rank, one behind the other, in order. Behind
    the last slot lies what peers read when they try a channel.

    Args:
        pool_bytes: memory to take; what does not fill a slot is not used.
        layout: of the chunks.
        arena: makes the memory.

    Raises:
        ConfigError: less than one chunk, or more than the machine has.
    """

    def __init__(self, pool_bytes: int, layout: Layout, arena: type[HostArena] = HostArena) -> None:
        slot_bytes = layout.chunk_bytes * layout.tensor_parallel
        check_pool_bytes(pool_bytes, slot_bytes)
        self.slot_bytes = slot_bytes
        num_slots = pool_bytes // slot_bytes
        end = num_slots * slot_bytes
        self._arena = arena(end + PROBE_BYTES)
        segment_region = self._arena.region(slot_bytes)
        probe = Probe(self._arena.address + end, os.urandom(16))
        self._arena.view(end, PROBE_BYTES)[:] = np.frombuffer(probe_content(probe.seed), np.uint8)
        self.region = Region(segment_region.segments, num_slots, probe=probe)
        self.num_slots = num_slots

    @property
    def file(self) -> ArenaFile:
        """Where other processes of the instance find the memory.

        Raises:
            ConfigError: the memory is private.
        """
        if not isinstance(self._arena, SharedArena):
            raise ConfigError("backend.pool_memory", "private", "nobody else can map it")
        return self._arena.file

    def view(self, slot: int) -> SlotBytes:
        """Returns the bytes of a slot, without a copy."""
        return self._arena.view(slot * self.slot_bytes, self.slot_bytes)

    def digest(self, key: ChunkKey, slot: int) -> int:
        """Returns the digest of what lies in a slot, as the chunk of a key.

        The whole slot is one leaf: above 64 KiB it is read with the interpreter lock released.
        """
        return chunk_digest(key, self.view(slot), self.slot_bytes)

    def close(self) -> None:
        """Drops the views; the memory itself stays, since peers may still read it."""
        self._arena.close()
