"""Chunks that are in the pool now, pinned for as long as somebody copies them."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from p2p.backend.instance import InstanceCore
from p2p.backend.pool import PoolMemory
from p2p.kernels import Slot
from p2p.keys import ChunkKey


class PresentChunks:
    """What one instance has at the moment. Thread-safe.

    Args:
        core: the instance.
        lock: held for every use of the core.
        pool: where chunks lie.
    """

    def __init__(self, core: InstanceCore, lock: threading.RLock, pool: PoolMemory) -> None:
        self._core = core
        self._lock = lock
        self._pool = pool

    @contextmanager
    def pinned(self, keys: Sequence[ChunkKey], tenant: str) -> Iterator[list[Slot]]:
        """Gives the bytes of the leading chunks that are here for a tenant; they stay meanwhile."""
        with self._lock:
            entries = self._core.index.prefix(keys, tenant)
            for entry in entries:
                self._core.index.pin(entry)
        try:
            yield [self._pool.view(entry.slot) for entry in entries]
        finally:
            with self._lock:
                for entry in entries:
                    self._core.unpin(entry)
