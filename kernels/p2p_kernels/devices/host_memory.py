"""Host memory that devices and networks copy from and to.

Beside an accelerator it is pinned, so that copies run at the full speed of the bus and
asynchronously; elsewhere it is plain, and locked where the limit allows. Either way a transport
registers it as host memory. Pinning is untested on hardware.
"""

import ctypes
import logging
import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from p2p.errors import MemoryUnavailableError
from p2p_kernels.devices.names import DeviceKind, DeviceName
from p2p_kernels.memory import Uint8s

if TYPE_CHECKING:
    from types import ModuleType

_log = logging.getLogger(__name__)
_libc = ctypes.CDLL(None, use_errno=True)
_REGISTER_PORTABLE = 1  # cudaHostRegisterPortable, the same number in HIP


@dataclass(frozen=True, slots=True, eq=False)
class HostBuffer:
    """A span of host memory; the array keeps it alive.

    Attributes:
        array: (num_bytes,) uint8, aligned to a page.
        is_pinned: the driver knows it.
        is_locked: it stays in memory; pinned memory always does.
    """

    array: Uint8s
    is_pinned: bool
    is_locked: bool

    @property
    def address(self) -> int:
        """Where it starts."""
        return int(self.array.ctypes.data)


def allocate_host(num_bytes: int, device: DeviceName) -> HostBuffer:
    """Returns host memory, pinned for a device if that is no host.

    Raises:
        MemoryUnavailableError: there is not as much, or the driver refuses to pin it.
    """
    if num_bytes < 1:
        raise MemoryUnavailableError(f"no host memory of {num_bytes} bytes")
    if device.kind is DeviceKind.CPU:
        return _plain(num_bytes)
    try:
        import torch  # noqa: PLC0415 - optional package

        pinned = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True)
    except (ImportError, RuntimeError) as error:
        reason = f"no pinned memory of {num_bytes} bytes for {device.torch_name}: {error}"
        raise MemoryUnavailableError(reason) from error
    return HostBuffer(pinned.numpy(), is_pinned=True, is_locked=True)


class PinnedSpan:
    """Existing host memory that a CUDA or ROCm driver was told of; see `pin_span`."""

    def __init__(self, address: int, num_bytes: int) -> None:
        self.address = address
        self.num_bytes = num_bytes
        self._is_pinned = True

    def release(self) -> None:
        """Takes the pinning back; copies from and to it must have ended. Idempotent."""
        if self._is_pinned:
            _cudart().cudaHostUnregister(self.address)
            self._is_pinned = False


def pin_span(address: int, num_bytes: int, device: DeviceName) -> PinnedSpan:
    """Pins memory that is there already, such as a pool's arena.

    Only CUDA and ROCm can; other devices take memory of `allocate_host`. The memory must stay
    mapped until it was released.

    Raises:
        MemoryUnavailableError: the device cannot, or its driver refuses.
    """
    if device.torch_type != "cuda":
        reason = f"memory that is there cannot be pinned for {device.torch_name}"
        raise MemoryUnavailableError(reason)
    status = int(_cudart().cudaHostRegister(address, num_bytes, _REGISTER_PORTABLE))
    if status:
        raise MemoryUnavailableError(f"pinning {num_bytes} bytes gave CUDA error {status}")
    return PinnedSpan(address, num_bytes)


def _cudart() -> "ModuleType":
    try:
        import torch  # noqa: PLC0415 - optional package

        runtime: ModuleType = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    except (ImportError, RuntimeError, AssertionError) as error:
        raise MemoryUnavailableError(f"no CUDA runtime: {error}") from error
    return runtime


def _plain(num_bytes: int) -> HostBuffer:
    try:
        mapping = mmap.mmap(-1, num_bytes)
    except (OSError, OverflowError) as error:
        raise MemoryUnavailableError(f"no host memory of {num_bytes} bytes: {error}") from error
    array = np.frombuffer(mapping, np.uint8)
    span = ctypes.c_void_p(int(array.ctypes.data)), ctypes.c_size_t(num_bytes)
    is_locked = _libc.mlock(*span) == 0
    if not is_locked:
        _log.debug("%s bytes not locked: errno %s", num_bytes, ctypes.get_errno())
    return HostBuffer(array, is_pinned=False, is_locked=is_locked)
