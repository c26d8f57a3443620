"""What costs depend on: the device's name, and the versions of what drives it."""

import os
import sys
from functools import cache
from importlib import metadata
from pathlib import Path


def device_key(device: str) -> str:
    """Returns a name for devices that copy alike, with the versions of driver and libraries.

    Args:
        device: as torch writes it, such as ``cpu`` or ``cuda:0``.
    """
    torch = sys.modules.get("torch")
    if device == "cpu" or torch is None:
        processors = len(os.sched_getaffinity(0))
        numpy_version, torch_version = _version("numpy"), _version("torch")
        return f"{_processor()} x{processors} | numpy {numpy_version}, torch {torch_version}"
    module = torch.get_device_module(device)
    runtime = torch.version.cuda or getattr(torch.version, "hip", None) or ""
    return f"{module.get_device_name(device)} | {_driver()} {runtime}, torch {_version('torch')}"


def synchronize(device: str) -> None:
    """Waits for all that was submitted to a device; nothing to do on the host."""
    torch = sys.modules.get("torch")
    if device != "cpu" and torch is not None:
        torch.get_device_module(device).synchronize(device)


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return os.uname().machine
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else os.uname().machine


@cache  # reading it takes 3 ms
def _version(package: str) -> str:
    """Returns what is installed, without importing it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _driver() -> str:
    try:
        return Path("/sys/module/nvidia/version").read_text().strip()
    except OSError:
        return os.uname().release
