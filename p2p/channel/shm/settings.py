"""Settings of the `shm` channel."""

import os
from dataclasses import dataclass
from enum import Enum

from p2p.channel.access import Access
from p2p.errors import ArgumentError

_MAX_THREADS = 64


class PoolWriters(Enum):
    """Who writes into a pool that is lent for reading."""

    HOLDER = "the process that lends it"
    ENGINE = "other processes of its engine too"


@dataclass(frozen=True, slots=True)
class ShmConfig:
    """How the `shm` channel copies and what it lends.

    Attributes:
        num_threads: that copy what is larger than ``inline_bytes``; 0 takes one for every
            processor that we may use, at most eight.
        inline_bytes: a transfer of at most so many bytes is copied inside the submitting call.
        access: what peers may do with our pool, and what we ask for of theirs.
        writers: of a pool that is lent for reading. With ``HOLDER`` the kernel refuses for ever to
            map it for writing; with ``ENGINE`` it refuses that only to who was lent it.
    """

    num_threads: int = 0
    inline_bytes: int = 4 << 20
    access: Access = Access.READ
    writers: PoolWriters = PoolWriters.HOLDER

    def __post_init__(self) -> None:
        if not 0 <= self.num_threads <= _MAX_THREADS:
            reason = f"must be from 0 to {_MAX_THREADS}"
            raise ArgumentError("shm.num_threads", self.num_threads, reason)
        if self.inline_bytes < 0:
            raise ArgumentError("shm.inline_bytes", self.inline_bytes, "must not be negative")

    def threads(self) -> int:
        """Returns how many threads copy."""
        return self.num_threads or min(len(os.sched_getaffinity(0)), 8)
