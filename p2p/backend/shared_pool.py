"""Storing in two halves, for chunks that the engine's workers write into the pool themselves.

`acquire` gives slots, the workers fill them, and `commit` takes the digest of what lies there and
advertises it. Nothing is found or lent in between.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from p2p.agent.shared_arena import ArenaFile
from p2p.backend.intake import Intake
from p2p.backend.pool import Pool, PoolMemory
from p2p.backend.store import Placement
from p2p.errors import ConfigError
from p2p.keys import ChunkKey


class Acquired(NamedTuple):
    """What `SharedPool.acquire` gives.

    Attributes:
        placements: of the chunks that are not here, in order.
        num_refused: chunks for which there is no room.
    """

    placements: list[Placement]
    num_refused: int


class SharedPool:
    """A pool that other processes of the instance fill. Thread-safe.

    Args:
        pool: where chunks are written.
        intake: the way into it.
    """

    def __init__(self, pool: PoolMemory, intake: Intake) -> None:
        self._pool = pool
        self._intake = intake

    @property
    def file(self) -> ArenaFile:
        """Where the workers find the pool.

        Raises:
            ConfigError: the backend's ``pool_memory`` is another.
        """
        if not isinstance(self._pool, Pool):
            raise ConfigError("backend.pool_memory", "device", "nobody else can map it")
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
        placements, report = self._intake.begin(keys, tenant)
        behind = [p if p.position else replace(p, parent=parent) for p in placements]
        return Acquired(behind, report.num_refused)

    def commit(self, placements: Sequence[Placement], tenant: str = "") -> None:
        """Filled chunks become part of the instance; takes as long as their digests do."""
        self._intake.commit(placements, tenant)

    def release(self, placements: Sequence[Placement]) -> None:
        """Gives slots back that nobody writes any more."""
        self._intake.release(placements)
