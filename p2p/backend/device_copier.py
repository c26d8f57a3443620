"""Copies between a paged cache and slots on the same device, by kernels alone.

The bus takes no part, so there are no pieces and no buffers. Untested on hardware.
"""

from collections.abc import Callable, Sequence

from p2p.backend.blocks import BlockRows
from p2p.backend.cache_part import CachePart
from p2p.errors import DeviceError
from p2p.kernels import DeviceEvent, DeviceName, Slot, open_stream


class DeviceCopier:
    """One direction of copies on one device. Thread-safe; the counterpart of `DeviceRing`.

    Args:
        device: where the paged caches and the pool are.

    Raises:
        PluginMissingError: torch doesn't know the device.
    """

    def __init__(self, device: DeviceName) -> None:
        self._stream = open_stream(device)

    def gather(
        self, part: CachePart, rows: BlockRows, spans: Sequence[Slot], after: DeviceEvent
    ) -> None:
        """Copies chunks out of a cache into slots; they are there when it returns.

        Args:
            part: of a cache on the device.
            rows: (C, N) the chunks' blocks.
            spans: memory of the device, one per chunk.
            after: what the engine was computing into these blocks.

        Raises:
            ArgumentError: blocks and spans do not fit the cache; nothing was copied.
            DeviceError: the device failed.
        """
        self._run(after, lambda: part.gather(rows, spans))

    def scatter(
        self, part: CachePart, rows: BlockRows, spans: Sequence[Slot], after: DeviceEvent
    ) -> None:
        """Copies chunks out of slots into a cache; they are there when it returns.

        Arguments and errors as `gather`: what the engine was computing may have read the blocks.
        """
        self._run(after, lambda: part.scatter(spans, rows))

    def _run(self, after: DeviceEvent, copy: Callable[[], None]) -> None:
        """Copies, without a deadline: a device ends what it has begun, or is lost."""
        try:
            self._stream.wait(after)
            try:
                with self._stream.active():
                    copy()
            finally:  # also what was begun before it failed
                self._stream.record().wait_host()
        except RuntimeError as error:  # torch's errors of devices
            raise DeviceError(f"{type(error).__name__}: {error}") from error
