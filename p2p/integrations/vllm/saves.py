"""Chunks on their way from the engine's blocks into the pool. No I/O, no threads.

A save has slots from the order to the last rank's confirmation; then its digest is taken, and only
then it is found by anybody. Nothing is saved twice: what is here or on its way is left out.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from p2p.backend.store import Placement
from p2p.integrations.vllm.fabric import Fabric
from p2p.integrations.vllm.orders import SaveDone, SaveOrder
from p2p.keys import ChunkKey

if TYPE_CHECKING:
    from concurrent.futures import Future


@dataclass(frozen=True, slots=True)
class SaveLimits:
    """How chunks lie in blocks, and how many may be on their way.

    Attributes:
        blocks_per_chunk: of the engine.
        num_ranks: that confirm each save.
        chunks_under_way: at most; what is computed beyond that is dropped.
    """

    blocks_per_chunk: int
    num_ranks: int
    chunks_under_way: int


@dataclass(slots=True)
class _Save:
    request: str
    placements: list[Placement]
    waiting: set[int]  # ranks that have not confirmed
    is_stored: bool = field(default=True)


class Saves:
    """All of an instance's.

    Args:
        fabric: where chunks go.
        limits: see there.
        counters: of what was saved and what was not, and why.
    """

    def __init__(self, fabric: Fabric, limits: SaveLimits, counters: Counter[str]) -> None:
        self._fabric = fabric
        self._limits = limits
        self._counters = counters
        self._save_by_number: dict[int, _Save] = {}
        self._commits: list[tuple[Future[None], list[Placement]]] = []
        self._keys: set[ChunkKey] = set()
        self._num_by_request: Counter[str] = Counter()
        self._last_number = 0

    @property
    def num_chunks_under_way(self) -> int:
        """Chunks that are not part of the instance yet."""
        return len(self._keys)

    def is_outstanding(self, request_id: str) -> bool:
        """True if ranks still copy out of a request's blocks, as far as they have told."""
        return self._num_by_request[request_id] > 0

    def order(
        self, request_id: str, keys: Sequence[ChunkKey], chunks: range, blocks: Sequence[int]
    ) -> list[SaveOrder]:
        """Returns the orders that save some chunks of a request.

        Args:
            request_id: vLLM's.
            keys: of all full chunks of the request.
            chunks: numbers of those that this step completes.
            blocks: of the request, in token order.
        """
        orders = []
        for run in self._runs_not_under_way(keys, chunks):
            parent = keys[run.start - 1] if run.start else None
            placements, num_refused = self._fabric.acquire(keys[run.start : run.stop], parent)
            self._counters["chunks_not_saved/pool_full"] += num_refused
            if placements:
                orders.append(self._order(request_id, placements, run.start, blocks))
        return orders

    def confirm(self, done: SaveDone) -> None:
        """One rank is through with a save."""
        save = self._save_by_number.get(done.number)
        if save is None or done.rank not in save.waiting:
            self._counters["unexpected/save_confirmation"] += 1
            return
        save.waiting.discard(done.rank)
        save.is_stored &= done.is_stored
        if save.waiting:
            return
        del self._save_by_number[done.number]
        self._num_by_request[save.request] -= 1
        if not self._num_by_request[save.request]:
            del self._num_by_request[save.request]
        if save.is_stored:
            self._counters["saved_chunks"] += len(save.placements)
            self._commits.append((self._fabric.commit(save.placements), save.placements))
        else:
            self._counters["chunks_not_saved/copy_failed"] += len(save.placements)
            self._fabric.release(save.placements)
            self._keys.difference_update(placement.key for placement in save.placements)

    def settle(self) -> None:
        """Forgets commits that are over; one that failed raises here."""
        for commit, placements in [each for each in self._commits if each[0].done()]:
            self._commits.remove((commit, placements))
            self._keys.difference_update(placement.key for placement in placements)
            commit.result()

    def _order(
        self, request_id: str, placements: list[Placement], first: int, blocks: Sequence[int]
    ) -> SaveOrder:
        per_chunk = self._limits.blocks_per_chunk
        self._last_number += 1
        ranks = set(range(self._limits.num_ranks))
        self._save_by_number[self._last_number] = _Save(request_id, placements, ranks)
        self._num_by_request[request_id] += 1
        self._keys.update(placement.key for placement in placements)
        starts = [(first + placement.position) * per_chunk for placement in placements]
        return SaveOrder(
            number=self._last_number,
            request=request_id,
            slots=tuple(placement.slot for placement in placements),
            blocks=tuple(block for start in starts for block in blocks[start : start + per_chunk]),
        )

    def _runs_not_under_way(self, keys: Sequence[ChunkKey], chunks: range) -> list[range]:
        """Returns the runs of chunks that nobody saves, as far as the limit lets them through."""
        room = self._limits.chunks_under_way - len(self._keys)
        runs: list[range] = []
        for chunk in chunks:
            if keys[chunk] in self._keys:
                self._counters["chunks_not_saved/under_way"] += 1
            elif room <= 0:
                self._counters["chunks_not_saved/backlog"] += 1
            else:
                room -= 1
                start = runs.pop().start if runs and runs[-1].stop == chunk else chunk
                runs.append(range(start, chunk + 1))
        return runs
