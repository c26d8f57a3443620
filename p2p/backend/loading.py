"""Chunks on their way into an engine's paged cache, as the engine sees them."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from p2p.backend.actions import ShortReason, SourceTally
from p2p.errors import ArgumentError, P2PError

_LONG_S = 60.0


class LoadOrder(Enum):
    """In which order blocks are written.

    By chunks, as soon as each is there; or, once all are there, layer after layer over all chunks.
    """

    CHUNKS = "chunks"
    LAYERS = "layers"


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a fetch brought into a paged cache.

    Attributes:
        num_chunks: leading chunks that are in the cache now, with those of which no block was
            asked for.
        num_skipped: leading chunks of which no block was asked for.
        num_local: how many of the others were in the pool before.
        reason: why there are not more; ``complete`` if there are all.
        detail: the names and numbers behind the reason.
        sources: what each holder contributed, most first.
        fetch_s: until the chunks were in the pool.
        scatter_s: from there until they were in the cache.
        request_id: under which the fetch is reported to the controller.
    """

    num_chunks: int
    num_skipped: int
    num_local: int = 0
    reason: ShortReason = ShortReason.COMPLETE
    detail: str = ""
    sources: tuple[SourceTally, ...] = ()
    fetch_s: float = 0.0
    scatter_s: float = 0.0
    request_id: str = ""


class Loading:
    """A fetch into a paged cache that is under way. Any thread may ask.

    What failed is raised by every question about it. Blocks that were not written by then are
    what they were; the engine computes the chunks.

    Args:
        num_layers: layers of the cache.
    """

    def __init__(self, num_layers: int) -> None:
        self._num_layers = num_layers
        self._changed = threading.Condition()
        self._num_chunks: int | None = None
        self._layers_written = 0
        self._report: LoadReport | None = None
        self._problem: P2PError | None = None

    def poll(self) -> LoadReport | None:
        """Returns what was brought, once it is in the cache; never blocks.

        Raises:
            P2PError: the copy into the cache failed.
        """
        return self.wait(0)

    def wait(self, timeout_s: float) -> LoadReport | None:
        """Returns what was brought, or None if it is not in the cache within ``timeout_s``.

        Raises: as `poll`.
        """
        self._wait(lambda: self._report is not None, timeout_s)
        return self._report

    def result(self) -> LoadReport:
        """Returns what was brought, however long that takes.

        Raises: as `poll`.
        """
        while (report := self.wait(_LONG_S)) is None:
            pass
        return report

    def wait_fetched(self, timeout_s: float) -> int | None:
        """Returns how many leading chunks will be in the cache, as soon as that is certain.

        Returns:
            As `LoadReport.num_chunks`; None if it is not certain within ``timeout_s``.

        Raises: as `poll`.
        """
        self._wait(lambda: self._num_chunks is not None, timeout_s)
        return self._num_chunks

    def wait_layer(self, layer: int, timeout_s: float) -> bool:
        """Returns whether a layer of all these chunks is in the cache within ``timeout_s``.

        With `LoadOrder.LAYERS`, layers come one after the other; else all come at the end.

        Raises:
            ArgumentError: there is no such layer.
            P2PError: as `poll`.
        """
        if not 0 <= layer < self._num_layers:
            raise ArgumentError("layer", layer, f"the cache has {self._num_layers} layers")
        return self._wait(lambda: layer < self._layers_written, timeout_s)

    # ------------------------------------------------------------------ for who loads

    def fetched(self, num_chunks: int) -> None:
        """So many leading chunks will be in the cache."""
        with self._changed:
            self._num_chunks = num_chunks
            self._changed.notify_all()

    def layer_written(self) -> None:
        """The next layer of all chunks is in the cache."""
        with self._changed:
            self._layers_written += 1
            self._changed.notify_all()

    def done(self, report: LoadReport) -> None:
        """Everything is in the cache."""
        with self._changed:
            self._num_chunks = report.num_chunks
            self._layers_written = self._num_layers
            self._report = report
            self._changed.notify_all()

    def failed(self, problem: P2PError) -> None:
        """The copy into the cache failed."""
        with self._changed:
            self._problem = problem
            self._changed.notify_all()

    def _wait(self, is_so: Callable[[], bool], timeout_s: float) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: is_so() or self._problem is not None, timeout_s)
            if self._problem is not None:
                raise self._problem
            return is_so()
