"""Takes chunks into the pool: a slot, bytes, a digest, and then they are advertised.

Nothing is found or lent before `commit`. Decisions are the core's.
"""

import threading
from collections.abc import Callable, Sequence

from p2p.backend.instance import InstanceCore
from p2p.backend.pool import PoolMemory
from p2p.backend.results import PutReport
from p2p.backend.sources import ChunkSource
from p2p.backend.store import Placement
from p2p.kernels import Slot
from p2p.keys import ChunkKey, check_keys

_BATCH_CHUNKS = 8


class Intake:
    """The way into one instance's pool. Thread-safe.

    Args:
        core: the instance.
        lock: held for every use of the core.
        pool: where chunks lie.
        on_commit: called when there is something to advertise.
    """

    def __init__(
        self,
        core: InstanceCore,
        lock: threading.RLock,
        pool: PoolMemory,
        on_commit: Callable[[], None],
    ) -> None:
        self._core = core
        self._lock = lock
        self._pool = pool
        self._on_commit = on_commit

    def put(self, keys: Sequence[ChunkKey], source: ChunkSource, tenant: str) -> PutReport:
        """Stores the chunks that are not here; blocks while bytes are copied.

        Raises:
            ArgumentError: keys differ in length, or the source does not fit.
        """
        placements, report = self.begin(keys, tenant)
        num_filled = 0
        try:
            for start in range(0, len(placements), _BATCH_CHUNKS):
                batch = placements[start : start + _BATCH_CHUNKS]
                positions = [placement.position for placement in batch]
                source.copy_to(positions, [self.view(placement) for placement in batch])
                self._commit(batch, tenant)
                num_filled += len(batch)
        except BaseException:
            self.release(placements[num_filled:])
            raise
        self._on_commit()
        return report

    def begin(self, keys: Sequence[ChunkKey], tenant: str) -> tuple[Sequence[Placement], PutReport]:
        """Returns slots for the chunks that are not here, and what that leaves.

        Every placement is given back, by `commit` or `release`.

        Raises:
            ArgumentError: keys differ in length.
        """
        check_keys(keys)
        with self._lock:
            num_refused = self._core.counters["put_chunks_refused_pool_full"]
            placements = self._core.begin_put(keys, tenant)
            num_refused = self._core.counters["put_chunks_refused_pool_full"] - num_refused
        num_present = len(keys) - len(placements) - num_refused
        return placements, PutReport(len(placements), num_present, num_refused)

    def view(self, placement: Placement) -> Slot:
        """Returns the bytes of a chunk that is to be filled."""
        return self._pool.view(placement.slot)

    def commit(self, placements: Sequence[Placement], tenant: str) -> None:
        """Filled chunks become part of the instance; takes as long as their digests do."""
        self._commit(placements, tenant)
        self._on_commit()

    def release(self, placements: Sequence[Placement]) -> None:
        """Gives slots back that nobody writes any more."""
        with self._lock:
            for placement in placements:
                self._core.slots.release(placement.slot)

    def _commit(self, placements: Sequence[Placement], tenant: str) -> None:
        roots = [self._pool.digest(placement.key, placement.slot) for placement in placements]
        with self._lock:
            for placement, root in zip(placements, roots, strict=True):
                self._core.commit(placement, (root,), tenant)
