"""An engine's paged cache, registered once: chunks come out of it and go into it by block ids."""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from p2p.backend.blocks import BlockRows, rows_to_gather, rows_to_scatter
from p2p.backend.cache_copies import CacheCopies
from p2p.backend.intake import Intake
from p2p.backend.loading import Loading, LoadOrder, LoadReport
from p2p.backend.pool import SlotBytes
from p2p.backend.results import FetchRequest, FetchResult, Handle, PutReport
from p2p.backend.saving import Saving
from p2p.backend.sources import ChunkSource
from p2p.backend.wanted import Wanted, wanted_of
from p2p.errors import ArgumentError, LocalError, P2PError
from p2p.kernels import BlockIds, DeviceEvent
from p2p.keys import ChunkKey

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheParts:
    """What a cache uses of its backend.

    Attributes:
        intake: where chunks go.
        put: stores chunks of a source for a tenant.
        submit_put: does so on another thread.
        fetch: brings chunks into the pool.
        start_fetch: does so on another thread, and calls with the result.
        saver: copies layers that are saved.
        loader: copies what was fetched.
    """

    intake: Intake
    put: Callable[[Sequence[ChunkKey], ChunkSource, str], PutReport]
    submit_put: Callable[[Sequence[ChunkKey], ChunkSource, str], Handle[PutReport]]
    fetch: Callable[[FetchRequest], FetchResult]
    start_fetch: Callable[[FetchRequest, Callable[[FetchResult], None]], None]
    saver: Executor
    loader: Executor


class EngineCache:
    """One paged cache of an engine. Thread-safe, as far as nobody writes what is read.

    Made by `P2PBackend.register_cache`. Blocks are those of the chunks in token order,
    ``blocks_per_chunk`` for each. What concerns a device is ordered behind what the calling thread
    has queued on it; when a result is there, bytes are where they belong.

    Args:
        copies: of the cache.
        parts: of the backend.
    """

    def __init__(self, copies: CacheCopies, parts: CacheParts) -> None:
        self._copies = copies
        self._parts = parts
        self.num_layers = copies.num_layers
        self.blocks_per_chunk = copies.blocks_per_chunk

    # ------------------------------------------------------------------ out of the cache

    def put(self, keys: Sequence[ChunkKey], block_ids: BlockIds, tenant: str = "") -> PutReport:
        """Stores chunks straight from their blocks; blocks while bytes are copied.

        Args:
            keys: of consecutive chunks of one prompt, from its first chunk on.
            block_ids: all blocks of all these chunks.
            tenant: who may read them; empty for everybody.

        Raises:
            ArgumentError: keys and blocks do not fit, or the cache has not all heads of a chunk.
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
            DeviceError: the device failed: what is in the blocks is undefined.
        """
        wanted = self._wanted(request, block_ids)
        if wanted.is_nothing:
            return LoadReport(wanted.first, wanted.first)
        with self._parts.fetch(wanted.request) as result:
            return self._load(wanted, result, LoadOrder.CHUNKS, Loading(self.num_layers))

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
        loading = Loading(self.num_layers)
        if wanted.is_nothing:
            loading.done(LoadReport(wanted.first, wanted.first))
            return loading
        submit = self._parts.loader.submit
        self._parts.start_fetch(
            wanted.request,
            lambda result: _ignore(submit(self._load_all, wanted, result, order, loading)),
        )
        return loading

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

    def _load_all(
        self, wanted: Wanted, result: FetchResult, order: LoadOrder, loading: Loading
    ) -> None:
        """The outermost frame of a load."""
        try:
            with result:
                self._load(wanted, result, order, loading)
        except P2PError as error:
            logger.warning("%s: not copied into the cache: %s", result.request_id, error)
            loading.failed(error)
        except Exception as error:
            logger.exception("%s: not copied into the cache", result.request_id)
            loading.failed(LocalError(f"not copied into the cache: {error}"))
            raise

    def _load(
        self, wanted: Wanted, result: FetchResult, order: LoadOrder, loading: Loading
    ) -> LoadReport:
        """Copies what was fetched, and tells as it goes."""
        first, chunks = wanted.first, result.chunks
        loading.fetched(first + len(chunks))
        rows = wanted.rows[first : first + len(chunks)]
        began_s = time.monotonic()
        if order is LoadOrder.LAYERS:
            for part in self._copies.layers:
                self._copies.scatter(part, rows, chunks)
                loading.layer_written()
        else:
            self._copies.scatter(self._copies.whole, rows, chunks)
        report = LoadReport(
            num_chunks=first + len(chunks),
            num_skipped=first,
            num_local=result.num_local,
            reason=result.reason,
            detail=result.detail,
            sources=result.sources,
            fetch_s=result.seconds,
            scatter_s=time.monotonic() - began_s,
            request_id=result.request_id,
        )
        loading.done(report)
        return report


@dataclass(frozen=True)
class _CacheSource:
    """Chunks in blocks of a cache, as `P2PBackend.put` takes them."""

    copies: CacheCopies
    rows: BlockRows
    after: DeviceEvent

    @property
    def num_chunks(self) -> int:
        return len(self.rows)

    def copy_to(self, positions: Sequence[int], slots: Sequence[SlotBytes]) -> None:
        self.copies.gather(self.copies.whole, self.rows[list(positions)], slots, self.after)


def _ignore(_: object) -> None:
    """A load tells its `Loading` what became of it."""
