"""The device on which the engine keeps its paged cache, and the pool's memory beside it."""

import logging

from p2p.errors import ArgumentError, ConfigError, MemoryUnavailableError
from p2p.kernels import DeviceKind, DeviceName, PinnedSpan, pin_span
from p2p.regions import MemoryKind, Region

logger = logging.getLogger(__name__)
_KEY = "backend.device"


def parse_device(text: str) -> DeviceName:
    """Returns the device of that name; nothing is looked for.

    Raises:
        ConfigError: there is no such name.
    """
    try:
        return DeviceName.parse(text)
    except ArgumentError as error:
        raise ConfigError(_KEY, text, error.reason) from error


def check_usable(device: DeviceName, text: str) -> None:
    """Raises `ConfigError` unless torch, in this process, has the device."""
    if device.kind is DeviceKind.CPU:
        return
    try:
        import torch  # noqa: PLC0415  an optional package

        count = int(torch.get_device_module(device.torch_type).device_count())
    except ImportError as error:
        raise ConfigError(_KEY, text, "needs torch: p2p-kv[torch]") from error
    except RuntimeError as error:  # torch does not know the type without its plugin
        raise ConfigError(_KEY, text, f"torch has no {device.torch_type} here") from error
    if device.index >= count:
        raise ConfigError(_KEY, text, f"torch has {count} of {device.torch_type} here")


def pin_pool(region: Region, device: DeviceName) -> PinnedSpan | None:
    """Pins a pool in host memory for copies from and to a device; None where there is none to pin.

    Where it is refused, copies go through memory of the driver and wait for it; a log line says so.
    """
    if device.kind is DeviceKind.CPU or region.kind is MemoryKind.VRAM:
        return None
    (segment,) = region.segments
    try:
        return pin_span(segment.base, segment.stride * region.count, device)
    except MemoryUnavailableError as error:
        logger.warning("the pool is not pinned, copies will be slow: %s", error)
        return None
