"""Storing in two halves, for chunks that the engine's workers write into the pool themselves.

`acquire` gives slots, the workers fill them, and `commit` takes the digest of what lies there and
advertises it. Nothing is found or lent in between.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from p2p.agent.shared_arena import ArenaFile
from p2p.backend.instance import InstanceCore
from p2p.backend.pool import Pool
from p2p.backend.store import Placement
from p2p.keys import ChunkKey, check_keys


class Acquired(NamedTuple):
    """What `Staging.acquire` gives.

    Attributes:
        placements: of the chunks that are not here, in order.
        num_refused: chunks for which there is no room.
    """

    placements: list[Placement]
    num_refused: int


class Staging:
    """The two halves of a put. Thread-safe.

    Args:
        core: the instance.
        lock: held for every use of the core.
        pool: where chunks are written.
        on_commit: called when there is something to advertise.
    """

    def __init__(
        self, core: InstanceCore, lock: threading.RLock, pool: Pool, on_commit: Callable[[], None]
    ) -> None:
        self._core = core
        self._lock = lock
        self._pool = pool
        self._on_commit = on_commit

    @property
    def file(self) -> ArenaFile:
        """Where the workers find the pool.

        Raises:
            ConfigError: the backend's ``pool_memory`` is private.
        """
        return self._pool.file

    @property
    def slot_bytes(self) -> int:
        """Bytes of a slot: the shards of all ranks, one behind the other."""
        return self._pool.slot_bytes

    def acquire(
        self, keys: Sequence[ChunkKey], parent: ChunkKey | None, tenant: str = ""
    ) -> Acquired:
        """Returns slots for the chunks that are not here, as far as there is room. Never blocks.

        Every placement is given back, by `commit` or `release`.

        Args:
            keys: of consecutive chunks of one prompt.
            parent: key of the chunk before the first of them; None at the start of a prompt.
            tenant: who may read them; empty for everybody.

        Raises:
            ArgumentError: keys differ in length.
        """
        check_keys(keys)
        with self._lock:
            num_refused = self._core.counters["put_chunks_refused_pool_full"]
            placements = self._core.begin_put(keys, tenant)
            num_refused = self._core.counters["put_chunks_refused_pool_full"] - num_refused
        if placements and placements[0].position == 0:
            placements[0] = replace(placements[0], parent=parent)
        return Acquired(placements, num_refused)

    def commit(self, placements: Sequence[Placement], tenant: str = "") -> None:
        """Filled chunks become part of the instance; takes as long as their digests do."""
        for placement in placements:
            root = self._pool.digest(placement.key, placement.slot)
            with self._lock:
                self._core.commit(placement, (root,), tenant)
        self._on_commit()

    def release(self, placements: Sequence[Placement]) -> None:
        """Gives slots back that nobody writes any more."""
        with self._lock:
            for placement in placements:
                self._core.slots.release(placement.slot)
