"""The memory of a staging ring: slots in host memory that a channel registers once."""

from p2p.agent.memory import Bytes, HostArena
from p2p.channel.staging.model import RingSize
from p2p.regions import Region


class StagingBuffers:
    """Host memory cut into the slots of a ring, all of it touched. Never unmapped.

    Args:
        size: how it is cut.

    Attributes:
        size: how it is cut.
        region: what a channel is opened over; block i is slot i.

    Raises:
        ConfigError: more than the machine has left.
        MemoryUnavailableError: the kernel refuses.
    """

    def __init__(self, size: RingSize) -> None:
        self.size = size
        self._arena = HostArena(size.num_bytes)
        whole = self._arena.region(size.slot_bytes)
        self.region = Region(whole.segments, size.num_slots)

    @property
    def address(self) -> int:
        """Of the first slot."""
        return self._arena.address

    def view(self, slot: int) -> Bytes:
        """Returns the bytes of a slot, without a copy."""
        return self._arena.view(slot * self.size.slot_bytes, self.size.slot_bytes)

    def close(self) -> None:
        """Drops our references; peers may still read the memory."""
        self._arena.close()
