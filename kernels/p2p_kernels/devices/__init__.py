"""Which accelerators this machine has, their streams, and host memory beside them.

Importing this package, and looking for devices, does not import torch or a vendor's package.
"""

from p2p_kernels.devices.detection import (
    Detected,
    Machine,
    choose_device,
    detect_devices,
    devices_here,
    guard_torch_import,
)
from p2p_kernels.devices.host_memory import HostBuffer, PinnedSpan, allocate_host, pin_span
from p2p_kernels.devices.names import DeviceKind, DeviceName
from p2p_kernels.devices.probe import Probe, probe_in_child
from p2p_kernels.devices.streams import (
    DeviceEvent,
    DeviceStream,
    HostStream,
    current_stream,
    open_stream,
)

__all__ = [
    "Detected",
    "DeviceEvent",
    "DeviceKind",
    "DeviceName",
    "DeviceStream",
    "HostBuffer",
    "HostStream",
    "Machine",
    "PinnedSpan",
    "Probe",
    "allocate_host",
    "choose_device",
    "current_stream",
    "detect_devices",
    "devices_here",
    "guard_torch_import",
    "open_stream",
    "pin_span",
    "probe_in_child",
]
