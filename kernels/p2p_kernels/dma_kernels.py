"""DMA: the copy engines of an NVIDIA device, one batch of copies per call.

Takes no processors from the model, reads and writes host memory directly, and pays for every
range: it is for long ones. Lists are made on the host from the plan and handed to the driver by
``cuda.bindings``. Untested on hardware.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from p2p.errors import ArgumentError, LocalError, PluginMissingError
from p2p_kernels.base import Slot
from p2p_kernels.devices.names import DeviceName
from p2p_kernels.devices.streams import DeviceStream, TorchStream, current_stream, open_stream
from p2p_kernels.memory import PageMemory
from p2p_kernels.plan import CopyPlan, Int64s

if TYPE_CHECKING:
    from types import ModuleType


class RangeCopier(Protocol):
    """Copies byte ranges, ordered on the current stream."""

    def copy(self, targets: Int64s, sources: Int64s, lengths: Int64s) -> None:
        """Starts copies that do not depend on each other, at least one.

        Args:
            targets: (R,) addresses on a device or in host memory.
            sources: (R,) addresses.
            lengths: (R,) bytes.
        """
        ...

    def wait_host(self) -> None:
        """Returns when everything that was started has ended."""
        ...


class DmaCopier:
    """Copies between a cache on an NVIDIA device and slots anywhere.

    Raises:
        ArgumentError: the device is AMD's, for which no binding of such a call is known.
        PluginMissingError: there is no range copier, and ``cuda.bindings`` isn't installed.
    """

    name = "dma"

    def __init__(self, memory: PageMemory, ranges: RangeCopier | None = None) -> None:
        self.memory = memory
        self._ranges = ranges or open_driver(memory.spec.device)

    def gather(self, plan: CopyPlan, slots: Sequence[Slot]) -> None:
        """See `Copier.gather`. Returns after the copies if a slot is in host memory."""
        pages, chunks, lengths = copy_lists(plan, slots)
        self._copy(chunks, pages, lengths, slots)

    def scatter(self, plan: CopyPlan, slots: Sequence[Slot]) -> None:
        """See `Copier.scatter`. Returns after the copies if a slot is in host memory."""
        pages, chunks, lengths = copy_lists(plan, slots)
        self._copy(pages, chunks, lengths, slots)

    def _copy(
        self, targets: Int64s, sources: Int64s, lengths: Int64s, slots: Sequence[Slot]
    ) -> None:
        if lengths.size:
            self._ranges.copy(targets, sources, lengths)
            if any(isinstance(slot, np.ndarray) or slot.device.type == "cpu" for slot in slots):
                self._ranges.wait_host()


def copy_lists(plan: CopyPlan, slots: Sequence[Slot]) -> tuple[Int64s, Int64s, Int64s]:
    """Returns a call's copies as flat lists over all chunks.

    Returns:
        Three arrays of R: addresses in the paged cache, addresses in slots, lengths in bytes.
    """
    pages, chunks, lengths = [], [], []
    for number, slot in enumerate(slots):
        page_R, chunk_R, length_R = plan.ranges(number)
        start = slot.ctypes.data if isinstance(slot, np.ndarray) else slot.data_ptr()
        pages.append(page_R)
        chunks.append(chunk_R + start)
        lengths.append(length_R)
    if not pages:
        nothing = np.empty(0, np.int64)
        return nothing, nothing, nothing
    return np.concatenate(pages), np.concatenate(chunks), np.concatenate(lengths)


class DriverRanges:
    """Copies by ``cuMemcpyBatchAsync`` on a stream of its own: the driver refuses the default one.

    Args:
        driver: ``cuda.bindings.driver``.
        side: the stream.
        handle: the stream as the driver knows it.
        current: returns the stream that calls are ordered on.
    """

    def __init__(
        self,
        driver: "ModuleType",
        side: DeviceStream,
        handle: int,
        current: Callable[[], DeviceStream],
    ) -> None:
        self._driver = driver
        self._side = side
        self._handle = handle
        self._current = current
        self._attributes = driver.CUmemcpyAttributes()
        # Not ANY, which may read pages before the kernels ahead on the stream have written them.
        order = driver.CUmemcpySrcAccessOrder.CU_MEMCPY_SRC_ACCESS_ORDER_STREAM
        self._attributes.srcAccessOrder = order

    def copy(self, targets: Int64s, sources: Int64s, lengths: Int64s) -> None:
        """See `RangeCopier.copy`.

        Raises:
            LocalError: the driver is missing, too old or refuses.
        """
        pointer = self._driver.CUdeviceptr
        current = self._current()
        self._side.wait(current.record())
        try:
            # Before CUDA 13 the number of the copy that failed comes behind the status.
            status, *_ = self._driver.cuMemcpyBatchAsync(
                [pointer(address) for address in targets.tolist()],
                [pointer(address) for address in sources.tolist()],
                lengths.tolist(),
                len(lengths),
                [self._attributes],
                [0],
                1,
                self._handle,
            )
        except RuntimeError as error:
            raise LocalError(f"cuMemcpyBatchAsync: {error}") from error
        if int(status):
            raise LocalError(f"cuMemcpyBatchAsync of {len(lengths)} copies: {status!r}")
        current.wait(self._side.record())

    def wait_host(self) -> None:
        """See `RangeCopier.wait_host`."""
        self._side.record().wait_host()


def open_driver(device: str) -> DriverRanges:
    """Returns what copies on an NVIDIA device.

    Raises:
        ArgumentError: the device is AMD's.
        PluginMissingError: ``cuda.bindings`` isn't installed.
    """
    try:
        import torch  # noqa: PLC0415 - optional package
        from cuda.bindings import driver  # noqa: PLC0415 - optional package
    except ImportError as error:
        raise PluginMissingError(f"dma needs torch and cuda-bindings: {error}") from error
    if torch.version.hip is not None:
        raise ArgumentError("device", device, "no binding of hipMemcpyBatchAsync is known")
    name = DeviceName.parse(device)
    side = open_stream(name)
    if not isinstance(side, TorchStream) or not isinstance(side.stream, torch.cuda.Stream):
        raise ArgumentError("device", device, "dma is for caches on cuda")
    return DriverRanges(driver, side, side.stream.cuda_stream, lambda: current_stream(name))
