"""The network between fake channels: it decides what moves, and a test decides what breaks.

Deterministic: transfers move in the order in which they were submitted.
"""

from enum import Enum
from typing import TYPE_CHECKING

from p2p.errors import ProtocolError

if TYPE_CHECKING:
    from p2p.channel.fake import FakeChannel, FakeTransfer


class Pace(Enum):
    """When blocks are copied."""

    AT_ONCE = "inside the submitting call"
    PER_POLL = "one at every poll of the transfer"
    BY_HAND = "only by FakeNetwork.step"


class Health(Enum):
    """How a process is doing."""

    RUNNING = "running"
    STOPPED = "stopped"
    DEAD = "dead"


class FakeNetwork:
    """Connects fake channels of one process, and lets a test hurt them by the process's name.

    Args:
        pace: when blocks are copied; may be changed at any time.
    """

    def __init__(self, pace: Pace = Pace.PER_POLL) -> None:
        self.pace = pace
        self._channel_by_metadata: dict[bytes, FakeChannel] = {}
        self._moving: list[FakeTransfer] = []

    def step(self, num_blocks: int = 1) -> int:
        """Copies the next blocks of the transfers in flight, oldest first; returns how many."""
        copied = 0
        for transfer in tuple(self._moving):
            while copied < num_blocks and transfer.copy_block():
                copied += 1
        return copied

    def settle(self) -> int:
        """Copies until nothing moves any more; returns how many blocks."""
        copied = 0
        while moved := self.step():
            copied += moved
        return copied

    def kill(self, name: str) -> None:
        """Ends a process: all that is in flight from or to it fails; it is never reached again."""
        for channel in self._named(name):
            self.remove(channel, "the process was killed")

    def stop(self, name: str) -> None:
        """Freezes a process: nothing moves to or from it, and nothing fails."""
        for channel in self._named(name):
            channel.health = Health.STOPPED

    def resume(self, name: str) -> None:
        """Lets a frozen process go on, and with it every transfer that was in flight."""
        for channel in self._named(name):
            channel.health = Health.RUNNING

    def fail(self, name: str, reason: str) -> None:
        """Takes down every link of a process; what is in flight on them fails."""
        for channel in self._named(name):
            self._tear_down(channel, reason)

    def join(self, channel: "FakeChannel") -> bytes:
        """Makes a channel reachable; returns its metadata, which is new at every start."""
        metadata = f"fake {channel.name} {len(self._channel_by_metadata)}".encode()
        self._channel_by_metadata[metadata] = channel
        return metadata

    def remove(self, channel: "FakeChannel", reason: str) -> None:
        """Makes a channel unreachable for ever, and takes down its links."""
        channel.health = Health.DEAD
        self._tear_down(channel, reason)

    def find(self, metadata: bytes) -> "FakeChannel":
        """Returns the channel with this metadata, dead or alive.

        Raises:
            ProtocolError: no channel ever had it.
        """
        if metadata not in self._channel_by_metadata:
            raise ProtocolError(f"metadata of {len(metadata)} bytes is not a fake channel's")
        return self._channel_by_metadata[metadata]

    def start(self, transfer: "FakeTransfer") -> None:
        """Takes a transfer in flight."""
        self._moving.append(transfer)
        while self.pace is Pace.AT_ONCE and transfer.copy_block():
            pass

    def end(self, transfer: "FakeTransfer") -> None:
        """Takes a transfer out of flight."""
        self._moving = [other for other in self._moving if other is not transfer]

    def _named(self, name: str) -> list["FakeChannel"]:
        """Returns the living channels of a process."""
        channels = self._channel_by_metadata.values()
        return [c for c in channels if c.name == name and c.health is not Health.DEAD]

    def _tear_down(self, channel: "FakeChannel", reason: str) -> None:
        for other in self._channel_by_metadata.values():
            for link in other.links():
                if channel in (link.local, link.remote):
                    link.tear_down(reason)
