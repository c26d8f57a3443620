"""Streams and events of any device, by one small interface; on the host they do nothing.

Kernels run in order on a stream, and streams wait for each other by events, never by the host.
torch's modules of devices (``torch.cuda``, ``torch.npu``, ``torch.mlu``) agree on what is used
here. Untested on hardware; the same code runs on ``torch.cpu`` in tests.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

from p2p.errors import PluginMissingError
from p2p_kernels.devices.names import DeviceKind, DeviceName

if TYPE_CHECKING:
    from types import ModuleType

    import torch


class DeviceEvent(Protocol):
    """A point in a stream."""

    def is_done(self) -> bool:
        """Returns whether the device has passed it. Never waits."""
        ...

    def wait_host(self) -> None:
        """Returns when the device has passed it."""
        ...


class DeviceStream(Protocol):
    """A queue of work on one device."""

    def active(self) -> AbstractContextManager[object]:
        """Makes it the calling thread's current stream for a while."""
        ...

    def record(self) -> DeviceEvent:
        """Returns an event behind everything that was queued so far."""
        ...

    def wait(self, event: DeviceEvent) -> None:
        """Lets what is queued from now on wait for an event of another stream of this kind."""
        ...


class HostEvent:
    """Work on the host is done when a call returns."""

    def is_done(self) -> bool:
        """Returns true."""
        return True

    def wait_host(self) -> None:
        """Returns at once."""


class HostStream:
    """The host has no queues."""

    def active(self) -> AbstractContextManager[object]:
        """Changes nothing."""
        return nullcontext()

    def record(self) -> DeviceEvent:
        """Returns an event that has passed."""
        return HostEvent()

    def wait(self, event: DeviceEvent) -> None:
        """Returns at once: events of the host have passed; for others the host waits."""
        event.wait_host()


class TorchEvent:
    """An event of one of torch's device modules."""

    def __init__(self, event: "torch.Event") -> None:
        self.event = event

    def is_done(self) -> bool:
        """See `DeviceEvent.is_done`."""
        return bool(self.event.query())

    def wait_host(self) -> None:
        """See `DeviceEvent.wait_host`."""
        self.event.synchronize()


class TorchStream:
    """A stream of one of torch's device modules.

    Args:
        module: the device's module, such as ``torch.npu``.
        stream: a stream of it.
    """

    def __init__(self, module: "ModuleType", stream: "torch.Stream | torch.cpu.Stream") -> None:
        self._module = module
        self.stream = stream

    def active(self) -> AbstractContextManager[object]:
        """See `DeviceStream.active`."""
        scope: AbstractContextManager[object] = self._module.stream(self.stream)
        return scope

    def record(self) -> DeviceEvent:
        """See `DeviceStream.record`."""
        event = self._module.Event()
        event.record(self.stream)
        return TorchEvent(event)

    def wait(self, event: DeviceEvent) -> None:
        """See `DeviceStream.wait`."""
        if isinstance(event, TorchEvent):
            self.stream.wait_event(event.event)
        else:
            event.wait_host()


def open_stream(device: DeviceName) -> DeviceStream:
    """Returns a new stream of a device.

    Raises:
        PluginMissingError: torch, or the device's plugin, isn't installed or doesn't load.
    """
    if device.kind is DeviceKind.CPU:
        return HostStream()
    module = _module(device)
    return TorchStream(module, module.Stream(device=device.torch_name))


def current_stream(device: DeviceName) -> DeviceStream:
    """Returns the stream that the calling thread uses on a device.

    Raises:
        PluginMissingError: torch, or the device's plugin, isn't installed or doesn't load.
    """
    if device.kind is DeviceKind.CPU:
        return HostStream()
    module = _module(device)
    return TorchStream(module, module.current_stream(device.torch_name))


def _module(device: DeviceName) -> "ModuleType":
    try:
        import torch  # noqa: PLC0415 - optional package

        module: ModuleType = torch.get_device_module(device.torch_type)
    except (ImportError, RuntimeError) as error:  # RuntimeError: torch doesn't know the type
        raise PluginMissingError(f"torch has no {device.torch_name}: {error}") from error
    return module
