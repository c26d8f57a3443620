"""The `shm` channel: instances of one host and one user, whose pools lie in shared memory.

A holder passes its pool's memory file over a unix socket; a reader maps it and copies out of it.
The holder's processor takes no part in a read, and a holder that stands still delays nobody.
"""

from p2p.channel.access import Access
from p2p.channel.shm.channel import SHM, ShmChannel
from p2p.channel.shm.settings import PoolWriters, ShmConfig

__all__ = ["SHM", "Access", "PoolWriters", "ShmChannel", "ShmConfig"]
