"""An engine's paged cache, registered once: chunks come out of it and go into it by block ids."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from p2p.backend.actions import FetchOutcome
from p2p.backend.blocks import BlockRows, rows_to_gather, rows_to_scatter
from p2p.backend.cache_copies import CacheCopies
from p2p.backend.engine_parts import FetchWatch
from p2p.backend.intake import Intake
from p2p.backend.load import Load
from p2p.backend.loading import Loading, LoadOrder, LoadReport
from p2p.backend.present import PresentChunks
from p2p.backend.results import FetchRequest, FetchResult, Handle, PutReport
from p2p.backend.saving import Saving
from p2p.backend.sources import ChunkSource
from p2p.backend.wanted import Wanted, wanted_of
from p2p.errors import ArgumentError
from p2p.kernels import BlockIds, DeviceEvent, Slot
from p2p.keys import ChunkKey


@dataclass(frozen=True)
class CacheParts:
    """What a cache uses of its backend.

    Attributes:
        intake: where chunks go.
        put: stores chunks of a source for a tenant.
        submit_put: does so on another thread.
        fetch: brings chunks into the pool, driven by the calling thread.
        start_fetch: does so on another thread.
        result_of: makes a result of an outcome.
        present: what is in the pool.
        saver: copies layers that are saved.
        loader: copies what was fetched.
    """

    intake: Intake
    put: Callable[[Sequence[ChunkKey], ChunkSource, str], PutReport]
    submit_put: Callable[[Sequence[ChunkKey], ChunkSource, str], Handle[PutReport]]
    fetch: Callable[[FetchRequest, FetchWatch], FetchOutcome]
    start_fetch: Callable[[FetchRequest, FetchWatch], None]
    result_of: Callable[[FetchOutcome], FetchResult]
    present: PresentChunks
    saver: Executor
    loader: Executor


class EngineCache:
    """One paged cache of an engine; a context manager.

    Made by `P2PBackend.register_cache`. Thread-safe, as far as nobody writes what is read. Blocks
    are those of the chunks in token order, ``blocks_per_chunk`` for each. What concerns a device is
    ordered behind what the calling thread has queued on it; when a result is there, bytes are where
    they belong.

    Args:
        copies: of the cache.
        parts: of the backend.
    """

    def __init__(self, copies: CacheCopies, parts: CacheParts) -> None:
        self._copies = copies
        self._parts = parts
        self.num_layers = copies.num_layers
        self.blocks_per_chunk = copies.blocks_per_chunk

    def close(self) -> None:
        """Ends the use of the engine's tensors, as before it gives their memory back. Idempotent.

        Returns when the copies that have begun are over: nothing touches a block from then on, and
        the tensors are not kept alive. What is under way fails with `ClosedError`, as every call
        does; chunks that were fetched stay in the pool. On the backend it changes nothing.
        """
        self._copies.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ------------------------------------------------------------------ out of the cache

    def put(self, keys: Sequence[ChunkKey], block_ids: BlockIds, tenant: str = "") -> PutReport:
        """Stores chunks straight from their blocks; blocks while bytes are copied.

        Args:
            keys: of consecutive chunks of one prompt, from its first chunk on.
            block_ids: all blocks of all these chunks.
            tenant: who may read them; empty for everybody.

        Raises:
            ArgumentError: keys and blocks do not fit, or the cache has not all heads of a chunk.
            ClosedError: the cache, or the backend, was closed.
            DeviceError: the device failed; nothing of the chunks at hand was stored.
        """
        return self._parts.put(keys, self._source(keys, block_ids), tenant)

    def submit_put(
        self, keys: Sequence[ChunkKey], block_ids: BlockIds, tenant: str = ""
    ) -> Handle[PutReport]:
        """Stores chunks on another thread; their blocks must not change until it has.

        The handle raises what `put` raises; what does not fit is raised at once.
        """
        return self._parts.submit_put(keys, self._source(keys, block_ids), tenant)

    def save(self, keys: Sequence[ChunkKey], block_ids: BlockIds, tenant: str = "") -> Saving:
        """Starts storing chunks layer by layer; arguments and errors as `put`."""
        rows = self._rows_to_gather(keys, block_ids)
        return Saving(
            self._copies, self._parts.intake, self._parts.saver.submit, keys, rows, tenant
        )

    # ------------------------------------------------------------------ into the cache

    def fetch(self, request: FetchRequest, block_ids: BlockIds) -> LoadReport:
        """Brings the longest prefix that is to be had into blocks of the cache.

        Args:
            request: which chunks, within which budget; copying into the cache comes on top.
            block_ids: of these chunks; `SKIP_BLOCK` for those that the cache has, or that are not
                wanted. Ids that are left out at the end are skipped as well. Leading chunks of
                which no block is wanted are not fetched.

        Raises:
            ArgumentError: keys and blocks do not fit.
            ClosedError: the cache, or the backend, was closed.
            DeviceError: the device failed: what is in the blocks is undefined.
        """
        wanted = self._wanted(request, block_ids)
        if wanted.is_nothing:
            return LoadReport(wanted.first, wanted.first)
        load = Load(self._copies, wanted, LoadOrder.CHUNKS, self._copies.compute_event())
        self._parts.fetch(wanted.request, self._watch(load))
        return load.loading.result()

    def submit_fetch(
        self,
        request: FetchRequest,
        block_ids: BlockIds,
        order: LoadOrder = LoadOrder.CHUNKS,
    ) -> Loading:
        """Starts a fetch and returns at once; the copy into the cache has a thread of its own.

        Arguments as `fetch`; what does not fit is raised at once, anything else by the `Loading`.
        The blocks must not be used before it says so.

        Args:
            request: see `fetch`.
            block_ids: see `fetch`.
            order: with `LoadOrder.LAYERS` the engine can use a layer while later ones are copied.
        """
        wanted = self._wanted(request, block_ids)
        load = Load(self._copies, wanted, order, self._copies.compute_event())
        if wanted.is_nothing:
            load.loading.done(LoadReport(wanted.first, wanted.first))
        else:
            self._parts.start_fetch(wanted.request, self._watch(load))
        return load.loading

    # ------------------------------------------------------------------ parts

    def _source(self, keys: Sequence[ChunkKey], block_ids: BlockIds) -> ChunkSource:
        rows = self._rows_to_gather(keys, block_ids)
        return _CacheSource(self._copies, rows, self._copies.compute_event())

    def _rows_to_gather(self, keys: Sequence[ChunkKey], block_ids: BlockIds) -> BlockRows:
        if not self._copies.has_whole_chunks:
            heads = self._copies.whole.heads
            raise ArgumentError("heads", heads, "a chunk is stored with all of its heads")
        rows = rows_to_gather(block_ids, len(keys), self.blocks_per_chunk)
        self._copies.whole.cache.plan(rows, self._copies.whole.heads)
        return rows

    def _wanted(self, request: FetchRequest, block_ids: BlockIds) -> Wanted:
        rows = rows_to_scatter(block_ids, len(request.keys), self.blocks_per_chunk)
        self._copies.whole.cache.plan(rows, self._copies.whole.heads)
        return wanted_of(request, rows)

    def _watch(self, load: Load) -> FetchWatch:
        """Has the loading thread copy what is there, whenever there is more."""
        parts = self._parts

        def on_progress() -> None:
            parts.loader.submit(load.advance, parts.present)

        def on_done(outcome: FetchOutcome) -> None:
            parts.loader.submit(load.finish, parts.result_of(outcome), time.monotonic())

        return FetchWatch(on_progress, on_done)


@dataclass(frozen=True)
class _CacheSource:
    """Chunks in blocks of a cache, as `P2PBackend.put` takes them."""

    copies: CacheCopies
    rows: BlockRows
    after: DeviceEvent

    @property
    def num_chunks(self) -> int:
        return len(self.rows)

    def copy_to(self, positions: Sequence[int], slots: Sequence[Slot]) -> None:
        self.copies.gather(self.copies.whole, self.rows[list(positions)], slots, self.after)
