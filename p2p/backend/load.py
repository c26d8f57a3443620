"""One load: what a fetch brings goes into blocks of a paged cache while the rest is on its way.

All of it runs on the loading thread, one step at a time. Whatever is verified and in the pool is
copied, in order, from the start; by layers, nothing is copied before everything is there.
"""

import logging
import time
from collections.abc import Callable

from p2p.backend.cache_copies import CacheCopies
from p2p.backend.loading import Loading, LoadOrder, LoadReport
from p2p.backend.present import PresentChunks
from p2p.backend.results import FetchResult
from p2p.backend.wanted import Wanted
from p2p.errors import LocalError, P2PError
from p2p.kernels import DeviceEvent

logger = logging.getLogger(__name__)


class Load:
    """One load.

    Args:
        copies: of the cache.
        wanted: which chunks, into which blocks.
        order: of the copies.
        after: they wait for it: what the engine was computing may read the blocks.

    Attributes:
        loading: as the engine sees it.
    """

    def __init__(
        self, copies: CacheCopies, wanted: Wanted, order: LoadOrder, after: DeviceEvent
    ) -> None:
        self.loading = Loading(copies.num_layers)
        self._copies = copies
        self._wanted = wanted
        self._order = order
        self._after = after
        self._num_written = 0
        self._is_failed = False

    def advance(self, present: PresentChunks) -> None:
        """Copies what is here by now and was not copied before."""
        if self._order is LoadOrder.CHUNKS and not self._is_failed:
            self._guard(lambda: self._advance(present))

    def finish(self, result: FetchResult, ended_s: float) -> None:
        """Copies what is left once the fetch has ended, and releases its chunks.

        Args:
            result: of the fetch.
            ended_s: when it ended, on the monotonic clock; copies may still have been queued.
        """
        with result:
            if not self._is_failed:
                self._guard(lambda: self._finish(result, ended_s))

    def _advance(self, present: PresentChunks) -> None:
        request, start = self._wanted.request, self._wanted.first + self._num_written
        with present.pinned(request.keys[self._num_written :], request.tenant) as slots:
            rows = self._wanted.rows[start : start + len(slots)]
            self._copies.scatter(self._copies.whole, rows, slots, self._after)
            self._num_written += len(slots)

    def _finish(self, result: FetchResult, ended_s: float) -> None:
        first, chunks = self._wanted.first, result.memory
        self.loading.fetched(first + len(chunks))
        rows = self._wanted.rows[first : first + len(chunks)]
        if self._order is LoadOrder.LAYERS:
            for part in self._copies.layers:
                self._copies.scatter(part, rows, chunks, self._after)
                self.loading.layer_written()
        else:
            left = slice(self._num_written, None)
            self._copies.scatter(self._copies.whole, rows[left], chunks[left], self._after)
        self.loading.done(
            LoadReport(
                num_chunks=first + len(chunks),
                num_skipped=first,
                num_local=result.num_local,
                reason=result.reason,
                detail=result.detail,
                sources=result.sources,
                fetch_s=result.seconds,
                scatter_s=time.monotonic() - ended_s,
                request_id=result.request_id,
            )
        )

    def _guard(self, copy: Callable[[], None]) -> None:
        """The outermost frame: after a failure the engine is told, and nothing more is copied."""
        try:
            copy()
        except P2PError as error:
            logger.warning("not copied into the cache: %s", error)
            self._is_failed = True
            self.loading.failed(error)
        except Exception as error:
            logger.exception("not copied into the cache")
            self._is_failed = True
            self.loading.failed(LocalError(f"not copied into the cache: {error}"))
            raise
