"""Asks a vendor's software how many devices it finds, in a process of its own.

Importing torch with a broken plugin raises, and drivers may crash or hang: that costs a child
here, and a reason, never the engine.
"""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass

from p2p_kernels.devices.names import DeviceKind

PROBE_TIMEOUT_S = 30.0  # importing torch takes seconds, more on a busy host

# torch would load every installed plugin by itself, of which one may be broken.
_NO_AUTOLOAD = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
_PROGRAM = """
import importlib, json, sys
kind, plugin = sys.argv[1:]
import torch
if plugin:
    importlib.import_module(plugin)
runtime = "rocm" if torch.version.hip else "cuda"
found = kind in (runtime, "npu", "mlu")
module = getattr(torch, "cuda" if kind in ("cuda", "rocm") else kind)
count = module.device_count() if found and module.is_available() else 0
print(json.dumps({"count": count, "torch": torch.__version__}))
"""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a vendor's software answered.

    Attributes:
        count: devices found.
        reason: why there are none; empty if there are some.
    """

    count: int
    reason: str


def probe_in_child(kind: DeviceKind, plugin: str, timeout_s: float = PROBE_TIMEOUT_S) -> Probe:
    """Counts devices of one kind in a child process, which is killed after ``timeout_s``.

    Args:
        kind: what to count.
        plugin: the package that teaches torch this kind; empty if torch knows it.
        timeout_s: how long to wait.
    """
    command = [sys.executable, "-c", _PROGRAM, kind.value, plugin]
    child = subprocess.Popen(  # noqa: S603 - our own program
        command,
        env={**os.environ, **_NO_AUTOLOAD},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, complaints = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)  # drivers' helpers too, which hold the pipes
        child.communicate()
        return Probe(0, f"asking for {kind} devices took more than {timeout_s:g} s")
    return _read_answer(kind, child.returncode, printed, complaints)


def _read_answer(kind: DeviceKind, code: int, printed: str, complaints: str) -> Probe:
    if code:
        last = complaints.strip().splitlines()[-1:] or ["no message"]
        ended = f"was killed by signal {-code}" if code < 0 else f"failed: {last[0]}"
        return Probe(0, f"asking for {kind} devices {ended}")
    try:
        count = int(json.loads(printed.splitlines()[-1])["count"])
    except (ValueError, IndexError, KeyError, TypeError):
        return Probe(0, f"asking for {kind} devices gave no number: {printed[-200:]!r}")
    return Probe(count, "" if count else f"torch finds no {kind} device")
