"""Finds the accelerators of this machine without importing what may crash.

Device files and packages are looked at first, which is free; only where a file and the package
that drives it are both there, a time-limited child asks the vendor's software. The answer is kept
for the process. Positive answers are untested on hardware.
"""

import logging
import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from p2p_kernels.devices.names import DeviceKind, DeviceName
from p2p_kernels.devices.probe import Probe, probe_in_child

_log = logging.getLogger(__name__)

_AUTOLOAD = "TORCH_DEVICE_BACKEND_AUTOLOAD"


@dataclass(frozen=True, slots=True)
class Traces:
    """What a kind of device leaves on a machine.

    Attributes:
        files: patterns of device files, any of which says that the driver is loaded.
        environ: variables that name the vendor's software, for the log.
        plugin: the package that teaches torch this kind; empty if torch knows it.
    """

    files: tuple[str, ...]
    environ: tuple[str, ...] = ()
    plugin: str = ""


TRACES_BY_KIND = {
    DeviceKind.NPU: Traces(
        ("dev/davinci[0-9]*",), ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME"), "torch_npu"
    ),
    DeviceKind.MLU: Traces(("dev/cambricon_dev*",), ("NEUWARE_HOME",), "torch_mlu"),
    DeviceKind.CUDA: Traces(("dev/nvidia[0-9]*", "dev/dxg"), ("CUDA_HOME",)),
    DeviceKind.ROCM: Traces(("dev/kfd",), ("ROCM_PATH", "DTKROOT")),
}
_HYGON_FILES = ("dev/mkfd", "opt/dtk")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where detection looks; tests bring their own.

    Attributes:
        root: what paths of devices start at.
        environ: the environment.
        has_package: whether a package is installed, without importing it.
    """

    root: Path
    environ: Mapping[str, str]
    has_package: Callable[[str], bool]

    @classmethod
    def here(cls) -> "Machine":
        """Returns this machine."""
        return cls(Path("/"), os.environ, lambda package: find_spec(package) is not None)

    def files(self, traces: Traces) -> tuple[str, ...]:
        """Returns the device files of a kind that are there."""
        found = (path for pattern in traces.files for path in self.root.glob(pattern))
        return tuple(sorted("/" + str(path.relative_to(self.root)) for path in found))


@dataclass(frozen=True, slots=True)
class Detected:
    """What was found of one kind of device.

    Attributes:
        kind: the kind.
        count: usable devices.
        reason: why there are none; empty if there are some.
        is_hygon: ROCm devices are Hygon's DCU, for which kernels are compiled by its own tools.
    """

    kind: DeviceKind
    count: int
    reason: str
    is_hygon: bool = False


def detect_devices(
    machine: Machine, probe: Callable[[DeviceKind, str], Probe] = probe_in_child
) -> tuple[Detected, ...]:
    """Returns what is there of every kind of accelerator, the likeliest first."""
    return tuple(_detect(kind, machine, probe) for kind in TRACES_BY_KIND)


@cache
def devices_here() -> tuple[Detected, ...]:
    """Returns the accelerators of this machine; looked for once in a process."""
    found = detect_devices(Machine.here())
    for each in found:
        _log.info("%s: %s", each.kind, each.reason or f"{each.count} devices")
    return found


def choose_device(
    forced: str | None, detect: Callable[[], tuple[Detected, ...]] = devices_here
) -> DeviceName:
    """Returns the device to use: the one that is named, else the first found, else the host.

    Args:
        forced: a device's name, for which nothing is looked for; none to look.
        detect: what looks.

    Raises:
        ArgumentError: ``forced`` names no device.
    """
    if forced is not None:
        return DeviceName.parse(forced)
    for each in detect():
        if each.count:
            return DeviceName(each.kind)
    return DeviceName(DeviceKind.CPU)


def guard_torch_import(machine: Machine, environ: MutableMapping[str, str]) -> tuple[str, ...]:
    """Keeps torch from loading a vendor's plugin for which there is no device.

    Such a plugin makes ``import torch`` itself fail. Call it before the first import of torch; a
    setting that the user made stays. Returns the plugins that were kept out.
    """
    if "torch" in sys.modules or _AUTOLOAD in environ:
        return ()
    kept_out = tuple(
        traces.plugin
        for traces in TRACES_BY_KIND.values()
        if traces.plugin and machine.has_package(traces.plugin) and not machine.files(traces)
    )
    if kept_out:
        environ[_AUTOLOAD] = "0"
        _log.info("%s set to 0: no device for %s", _AUTOLOAD, ", ".join(kept_out))
    return kept_out


def _detect(
    kind: DeviceKind, machine: Machine, probe: Callable[[DeviceKind, str], Probe]
) -> Detected:
    traces = TRACES_BY_KIND[kind]
    files = machine.files(traces)
    if not files:
        return Detected(kind, 0, f"no device file ({', '.join(f'/{f}' for f in traces.files)})")
    for package in ("torch", *filter(None, [traces.plugin])):
        if not machine.has_package(package):
            hint = ", ".join(name for name in traces.environ if machine.environ.get(name))
            reason = f"{files[0]} is there, but {package} is not installed"
            return Detected(kind, 0, f"{reason} ({hint} is set)" if hint else reason)
    answer = probe(kind, traces.plugin)
    is_hygon = kind is DeviceKind.ROCM and any(
        (machine.root / name).exists() for name in _HYGON_FILES
    )
    return Detected(kind, answer.count, answer.reason, is_hygon)
