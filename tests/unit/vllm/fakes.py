"""A fabric of one instance without peers or threads, over the real store of chunks."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from p2p.agent.shared_arena import ArenaFile
from p2p.backend import FetchResult, Handle, ShortReason, SourceTally
from p2p.backend.actions import FetchOutcome
from p2p.backend.index import IndexEntry
from p2p.backend.shared_pool import Acquired
from p2p.backend.store import ChunkStore, Placement
from p2p.integrations.vllm.coordinator import Coordinator, Sharing
from p2p.integrations.vllm.lookups import Wanted
from p2p.integrations.vllm.orders import PoolOrder
from p2p.keys import ChunkKey
from p2p.layout import ByteOrder, Layout
from p2p.wire.messages import EventKind

BLOCK = 16
CHUNK = 32
LAYOUT = Layout(2, 2, 8, "float32", BLOCK, CHUNK, byte_order=ByteOrder.OPAQUE)
POOL = PoolOrder(ArenaFile("/nowhere", 0, 1), LAYOUT.chunk_bytes, LAYOUT, 1)


def keys_of(num_chunks: int, seed: int = 0) -> list[ChunkKey]:
    return [ChunkKey(bytes([seed, number]) * 16) for number in range(num_chunks)]


def wanted(name: str, num_tokens: int, seed: int = 0) -> Wanted:
    return Wanted(name, keys_of(num_tokens // CHUNK, seed), num_tokens)


@dataclass
class FakeFetch:
    """A fetch that ends when the test says so."""

    keys: Sequence[ChunkKey]
    handle: Handle[FetchResult] | None = None
    result: FetchResult | None = None


@dataclass
class FakeFabric:
    """See `Fabric`. Chunks that ``held`` names can be fetched."""

    num_slots: int = 64
    held: set[ChunkKey] = field(default_factory=set)
    answers_at_once: bool = True
    fetches: list[FakeFetch] = field(default_factory=list)
    abandoned: list[Handle[FetchResult]] = field(default_factory=list)
    waited_s: list[float] = field(default_factory=list)
    commits: list[tuple["Future[None]", Sequence[Placement]]] = field(default_factory=list)
    prefills: list[tuple[int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = ChunkStore(self.num_slots, EventKind.ADMIT_HOST)

    def begin_fetch(
        self, keys: Sequence[ChunkKey], budget_s: float, request_id: str
    ) -> Handle[FetchResult]:
        fetch = FakeFetch(keys)
        fetch.handle = Handle(lambda: fetch.result, self.waited_s.append)
        self.fetches.append(fetch)
        if self.answers_at_once:
            self.answer(fetch)
        return fetch.handle

    def answer(self, fetch: FakeFetch) -> None:
        """Ends a fetch with what is held."""
        entries: list[IndexEntry] = []
        num_local = 0
        for key in fetch.keys:
            entry = self.store.index.get(key)
            num_local += entry is not None and num_local == len(entries)
            if entry is None and key in self.held:
                (placement,) = self.store.begin_put([key], "")
                entry = self.store.commit(placement, (0,), "")
            if entry is None:
                break
            self.store.index.pin(entry)
            entries.append(entry)
        is_all = len(entries) == len(fetch.keys)
        outcome = FetchOutcome(
            entries,
            ShortReason.COMPLETE if is_all else ShortReason.NO_HOLDER,
            num_local=num_local,
            sources=[SourceTally("peer", len(entries) - num_local, 0)],
            phases_s={"done": 0.01},
        )
        views = [np.zeros(1, np.uint8) for _ in entries]
        fetch.result = FetchResult(views, outcome, lambda: self._unpin(entries))

    def abandon(self, handle: Handle[FetchResult]) -> None:
        self.abandoned.append(handle)

    def acquire(self, keys: Sequence[ChunkKey], parent: ChunkKey | None) -> Acquired:
        refused = self.store.counters["put_chunks_refused_pool_full"]
        placements = self.store.begin_put(keys, "")
        return Acquired(placements, self.store.counters["put_chunks_refused_pool_full"] - refused)

    def commit(self, placements: Sequence[Placement]) -> "Future[None]":
        future: Future[None] = Future()
        self.commits.append((future, placements))
        return future

    def finish_commits(self) -> None:
        for future, placements in self.commits:
            for placement in placements:
                self.store.commit(placement, (0,), "")
            future.set_result(None)
        self.commits.clear()

    def release(self, placements: Sequence[Placement]) -> None:
        for placement in placements:
            self.store.slots.release(placement.slot)

    def report_prefill(self, num_tokens: int, seconds: float) -> None:
        self.prefills.append((num_tokens, seconds))

    def slot_of(self, key: ChunkKey) -> int:
        entry = self.store.index.get(key)
        assert entry is not None
        return entry.slot

    @property
    def num_pinned(self) -> int:
        return sum(entry.num_pins > 0 for entry in self.store.index)

    def _unpin(self, entries: Sequence[IndexEntry]) -> None:
        for entry in entries:
            self.store.unpin(entry)


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


def coordinator(
    fabric: FakeFabric, clock: Clock | None = None, num_ranks: int = 1, **changes: int
) -> Coordinator:
    sharing = Sharing(
        block_tokens=BLOCK,
        chunk_tokens=CHUNK,
        num_ranks=num_ranks,
        budget_s=1.0,
        pool=POOL,
        save_backlog_chunks=changes.get("save_backlog_chunks", 100),
        num_kept_back=changes.get("num_kept_back", 0),
    )
    return Coordinator(fabric, sharing, clock or Clock())
