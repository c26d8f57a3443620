"""Chunks that an engine stores layer by layer, while it computes the next ones."""

from collections.abc import Callable, Sequence
from concurrent.futures import wait
from types import TracebackType
from typing import TYPE_CHECKING, Self

from p2p.backend.blocks import BlockRows
from p2p.backend.cache_copies import CacheCopies
from p2p.backend.intake import Intake
from p2p.backend.results import PutReport
from p2p.errors import ArgumentError, ClosedError
from p2p.kernels import DeviceEvent
from p2p.keys import ChunkKey

if TYPE_CHECKING:
    from concurrent.futures import Future

Submit = Callable[[Callable[[], None]], "Future[None]"]


class Saving:
    """Slots for chunks, filled one layer at a time; a context manager. One thread at a time.

    Nothing is found or lent before `commit`. Without it, all is given up at the end.

    Args:
        copies: of the engine's cache.
        intake: where chunks go.
        submit: runs something on another thread.
        keys: of consecutive chunks of one prompt.
        rows: (C, N) their blocks.
        tenant: who may read them.

    Raises:
        ArgumentError: keys differ in length.
    """

    def __init__(
        self,
        copies: CacheCopies,
        intake: Intake,
        submit: Submit,
        keys: Sequence[ChunkKey],
        rows: BlockRows,
        tenant: str,
    ) -> None:
        self._copies = copies
        self._intake = intake
        self._submit = submit
        self._tenant = tenant
        self._placements, self._report = intake.begin(keys, tenant)
        self._rows = rows[[placement.position for placement in self._placements]]
        self._running: dict[int, Future[None]] = {}
        self._is_over = False

    def save_layer(self, layer: int) -> None:
        """Starts copying a layer of all these chunks, and returns at once.

        It is copied once the device has done what the calling thread has queued so far. The blocks
        must not change before `commit` returns.

        Raises:
            ArgumentError: there is no such layer, or it was saved before.
            ClosedError: all was committed or given up, or the backend is closed.
        """
        if self._is_over:
            raise ClosedError("the chunks were committed or given up")
        if not 0 <= layer < self._copies.num_layers:
            raise ArgumentError("layer", layer, f"the cache has {self._copies.num_layers} layers")
        if layer in self._running:
            raise ArgumentError("layer", layer, "is saved once")
        event = self._copies.compute_event()
        try:
            self._running[layer] = self._submit(lambda: self._copy(layer, event))
        except RuntimeError as error:  # what an executor says after its end
            raise ClosedError("the backend is closed") from error

    def commit(self) -> PutReport:
        """Waits for the copies; the chunks become part of the instance and are advertised.

        Raises:
            ArgumentError: a layer is missing; all is given up.
            DeviceError: the device failed; all is given up.
            ClosedError: all was committed or given up before.
        """
        if self._is_over:
            raise ClosedError("the chunks were committed or given up")
        try:
            self._finish()
        except BaseException:
            self.give_up()
            raise
        self._is_over = True
        return self._report

    def give_up(self) -> None:
        """Gives the slots back, once nobody writes into them. Idempotent."""
        if self._is_over:
            return
        self._is_over = True
        for copy in self._running.values():
            copy.cancel()
        wait(self._running.values())
        self._intake.release(self._placements)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.give_up()

    def _finish(self) -> None:
        for layer in range(self._copies.num_layers):
            if layer not in self._running:
                raise ArgumentError("layer", layer, "was not saved")
            self._running[layer].result()
        self._intake.commit(self._placements, self._tenant)

    def _copy(self, layer: int, after: DeviceEvent) -> None:
        slots = [self._intake.view(placement) for placement in self._placements]
        self._copies.gather(self._copies.layers[layer], self._rows, slots, after)
