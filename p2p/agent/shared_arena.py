"""Arenas that other processes of the same instance map as well: a file without a name.

The coordinator makes one and registers it; the engine's workers copy between it and their paged
caches. The file has no name, so nothing is left behind whoever dies; workers open it through the
maker's descriptor, which takes the same user and the same process namespace.
"""

import mmap
import os

import msgspec
import numpy as np

from p2p.agent.memory import Bytes, HostArena, keep_mapped
from p2p.agent.memory_files import SharedFile, publish, seal_size
from p2p.errors import MemoryUnavailableError


class ArenaFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where another process finds a shared arena.

    Attributes:
        path: to open.
        offset: of the arena's first byte.
        num_bytes: of the arena.
    """

    path: str
    offset: int
    num_bytes: int


class SharedArena(HostArena):
    """A `HostArena` that other processes can map; the same promises hold.

    Attributes:
        file: what `attach` takes in another process.
    """

    def __init__(self, num_bytes: int) -> None:
        self._fd = -1
        super().__init__(num_bytes)
        path = f"/proc/{os.getpid()}/fd/{self._fd}"
        self.file = ArenaFile(path, self.offset, self.num_bytes)
        size = os.fstat(self._fd).st_size
        publish(SharedFile(self._fd, self.address - self.offset, size))

    def _map(self, num_bytes: int) -> mmap.mmap:
        self._fd = os.memfd_create("p2p-pool", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self._fd, num_bytes)
        seal_size(self._fd)
        return mmap.mmap(self._fd, num_bytes, mmap.MAP_SHARED)


def attach(file: ArenaFile) -> Bytes:
    """Returns the bytes of another process's arena, mapped until this process ends.

    Raises:
        MemoryUnavailableError: the file cannot be opened or mapped: another host, another user, or
            the maker is gone.
    """
    try:
        fd = os.open(file.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            mapping = mmap.mmap(fd, size, mmap.MAP_SHARED)
        finally:
            os.close(fd)
        whole: Bytes = np.frombuffer(mapping, np.uint8)
    except (OSError, ValueError) as error:
        raise MemoryUnavailableError(f"no shared arena at {file.path}: {error}") from error
    if file.offset + file.num_bytes > whole.size:
        reason = f"{whole.size} bytes, not the {file.offset + file.num_bytes} of the arena"
        raise MemoryUnavailableError(f"{file.path} has {reason}")
    keep_mapped(mapping)
    return whole[file.offset : file.offset + file.num_bytes]
