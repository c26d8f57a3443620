"""Devices: what is detected from files and packages, children that fail, streams, host memory."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from p2p.errors import ArgumentError, MemoryUnavailableError, PluginMissingError
from p2p.kernels import open_leaf_digester
from p2p_kernels.devices import (
    Detected,
    DeviceKind,
    DeviceName,
    HostStream,
    Machine,
    Probe,
    allocate_host,
    choose_device,
    current_stream,
    detect_devices,
    devices_here,
    guard_torch_import,
    open_stream,
    pin_span,
    probe_in_child,
)
from p2p_kernels.devices.host_memory import PinnedSpan
from p2p_kernels.devices.streams import TorchStream
from tests.unit.kernels.children import ROOT

TORCH_NPU = os.environ.get("P2P_TORCH_NPU")


@pytest.mark.parametrize(
    ("text", "kind", "index", "in_torch"),
    [
        ("cpu", DeviceKind.CPU, 0, "cpu"),
        ("cuda", DeviceKind.CUDA, 0, "cuda:0"),
        ("cuda:3", DeviceKind.CUDA, 3, "cuda:3"),
        ("rocm:1", DeviceKind.ROCM, 1, "cuda:1"),
        ("dcu", DeviceKind.ROCM, 0, "cuda:0"),
        ("npu:7", DeviceKind.NPU, 7, "npu:7"),
        ("mlu", DeviceKind.MLU, 0, "mlu:0"),
    ],
)
def test_names(text, kind, index, in_torch):
    name = DeviceName.parse(text)
    assert (name.kind, name.index, name.torch_name) == (kind, index, in_torch)


@pytest.mark.parametrize(
    "text", ["", "gpu", "cuda:", "cuda:-1", "npu:x", "cpu:1", "CUDA", "cuda:0 "]
)
def test_names_that_are_none(text):
    with pytest.raises(ArgumentError, match=r"^device = "):
        DeviceName.parse(text)


def _machine(root, files=(), packages=(), environ=None):
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return Machine(root, environ or {}, lambda package: package in packages)


def _never(*asked):
    raise AssertionError(asked)


def _by_kind(found):
    return {each.kind: each for each in found}


def test_without_device_files_nobody_is_asked(tmp_path):
    machine = _machine(tmp_path, packages=("torch", "torch_npu", "torch_mlu"))
    found = detect_devices(machine, _never)
    assert [each.count for each in found] == [0, 0, 0, 0]
    assert {each.kind for each in found} == set(DeviceKind) - {DeviceKind.CPU}
    assert "no device file" in _by_kind(found)[DeviceKind.NPU].reason


@pytest.mark.parametrize(
    ("file", "kind", "plugin"),
    [
        ("dev/davinci0", DeviceKind.NPU, "torch_npu"),
        ("dev/cambricon_dev0", DeviceKind.MLU, "torch_mlu"),
        ("dev/nvidia0", DeviceKind.CUDA, ""),
        ("dev/kfd", DeviceKind.ROCM, ""),
    ],
)
def test_a_device_with_its_package_is_asked_for(tmp_path, file, kind, plugin):
    asked = []

    def probe(*arguments):
        asked.append(arguments)
        return Probe(2, "")

    machine = _machine(tmp_path, [file], ["torch", plugin])
    assert _by_kind(detect_devices(machine, probe))[kind] == Detected(kind, 2, "")
    assert asked == [(kind, plugin)]
    without = _machine(tmp_path, [file], [])
    assert "not installed" in _by_kind(detect_devices(without, _never))[kind].reason


def test_a_plugin_that_is_missing_is_named_with_the_software(tmp_path):
    machine = _machine(tmp_path, ["dev/davinci3"], ["torch"], {"ASCEND_HOME_PATH": "/opt"})
    reason = _by_kind(detect_devices(machine, _never))[DeviceKind.NPU].reason
    assert (
        reason == "/dev/davinci3 is there, but torch_npu is not installed (ASCEND_HOME_PATH is set)"
    )


@pytest.mark.parametrize("trace", ["dev/mkfd", "opt/dtk/env.sh"])
def test_hygon_is_rocm_by_another_vendor(tmp_path, trace):
    machine = _machine(tmp_path, ["dev/kfd", trace], ["torch"])
    found = _by_kind(detect_devices(machine, lambda *_: Probe(1, "")))
    assert found[DeviceKind.ROCM].is_hygon


def test_a_named_device_is_not_looked_for():
    assert choose_device("mlu:2", _never) == DeviceName(DeviceKind.MLU, 2)
    found = (Detected(DeviceKind.NPU, 0, "none"), Detected(DeviceKind.ROCM, 1, ""))
    assert choose_device(None, lambda: found) == DeviceName(DeviceKind.ROCM)
    assert choose_device(None, lambda: found[:1]) == DeviceName(DeviceKind.CPU)


def test_this_machine_is_looked_at_once():
    assert devices_here() is devices_here()
    files = {each.kind: Path("/dev/nvidia0").exists() for each in devices_here()}
    assert set(files) == set(DeviceKind) - {DeviceKind.CPU}


def test_detection_imports_neither_torch_nor_plugins():
    program = (
        "import sys; from p2p_kernels.devices import choose_device; choose_device('npu');"
        "from pathlib import Path; from p2p_kernels.devices import Machine, detect_devices;"
        "detect_devices(Machine(Path('/nowhere'), {}, lambda package: True));"
        "print([name for name in sys.modules if name.startswith('torch')])"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    printed = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert printed.stdout.strip() == "[]"


BROKEN = {
    "raises": ("raise ImportError('libhccl.so: cannot open')", "failed: ImportError: libhccl.so"),
    "aborts": ("import os; os.abort()", "was killed by signal 6"),
    "hangs": ("import time; time.sleep(600)", "took more than"),
    "answers nonsense": ("print('hello'); raise SystemExit(0)", "gave no number: 'hello"),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_plugin_costs_a_child(tmp_path, monkeypatch, how):
    text, reason = BROKEN[how]
    (tmp_path / "torch.py").write_text("")  # the real one takes seconds, and is not the point
    (tmp_path / "broken_plugin.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    timeout_s = 1.0 if how == "hangs" else 30.0
    answer = probe_in_child(DeviceKind.NPU, "broken_plugin", timeout_s)
    assert answer.count == 0
    assert reason in answer.reason


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_torch_is_asked_in_a_child():
    assert probe_in_child(DeviceKind.CUDA, "") == Probe(0, "torch finds no cuda device")


def test_torch_is_kept_from_plugins_without_devices(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    machine = _machine(tmp_path, ["dev/cambricon_dev0"], ["torch_npu", "torch_mlu"])
    environ: dict[str, str] = {}
    assert guard_torch_import(machine, environ) == ("torch_npu",)
    assert environ == {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    assert guard_torch_import(machine, {"TORCH_DEVICE_BACKEND_AUTOLOAD": "1"}) == ()
    assert guard_torch_import(_machine(tmp_path, ["dev/davinci0"], ["torch_npu"]), {}) == ()


def test_torch_that_is_there_is_left_alone(tmp_path):
    environ: dict[str, str] = {}
    assert guard_torch_import(_machine(tmp_path, (), ["torch_npu"]), environ) == ()
    assert not environ


@pytest.mark.skipif(
    not TORCH_NPU,
    reason="P2P_TORCH_NPU names no folder of pip install --no-deps --target FOLDER torch-npu",
)
def test_torch_npu_without_cann(monkeypatch):
    """The real package breaks ``import torch``; ours goes on."""
    path = os.pathsep.join([str(TORCH_NPU), str(ROOT), str(ROOT / "kernels")])
    monkeypatch.setenv("PYTHONPATH", path)

    def run(program):
        command = [sys.executable, "-c", program]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    broken = run("import torch")
    assert "Failed to load the backend extension: torch_npu" in broken.stderr
    guarded = run(
        "import os; from p2p_kernels.devices import *;"
        "print(guard_torch_import(Machine.here(), os.environ)); import torch; print('imported');"
        "print(devices_here()[0].reason); print(choose_device(None).torch_name)"
    )
    assert guarded.returncode == 0, guarded.stderr
    assert guarded.stdout.splitlines()[:2] == ["('torch_npu',)", "imported"]
    opened = run(
        "import numpy; from p2p.kernels import *;"
        "memory = PageMemory.of_tensors(numpy.zeros((5, 4, 8)), PageAxes.MLA);"
        "print(open_copier(memory, Implementation.TORCH).name)"
    )
    assert opened.stdout == "torch\n", opened.stderr
    answer = probe_in_child(DeviceKind.NPU, "torch_npu")
    assert answer.count == 0
    assert "ImportError: lib" in answer.reason


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_digests_without_a_device_name_what_is_missing():
    with pytest.raises(ArgumentError, match=r"^device = 'cpu'"):
        open_leaf_digester("cpu")
    with pytest.raises(PluginMissingError, match=r"nothing digests on cuda:0: .*CuPy.*; .*"):
        open_leaf_digester("cuda:0")


def test_streams_of_the_host():
    stream = open_stream(DeviceName(DeviceKind.CPU))
    assert isinstance(stream, HostStream)
    event = stream.record()
    with stream.active():
        current_stream(DeviceName(DeviceKind.CPU)).wait(event)
    event.wait_host()
    assert event.is_done()


def test_streams_of_torch_on_its_host_module():
    first, second = (TorchStream(torch.cpu, torch.cpu.Stream()) for _ in range(2))
    event = first.record()
    second.wait(event)
    second.wait(HostStream().record())
    with second.active():
        assert torch.cpu.current_stream() is second.stream
    event.wait_host()
    assert event.is_done()


@pytest.mark.parametrize("device", ["npu", "mlu:1"])
@pytest.mark.parametrize("opener", [open_stream, current_stream])
def test_streams_without_a_plugin(opener, device):
    name = DeviceName.parse(device)
    if importlib.util.find_spec(f"torch_{name.kind}"):
        pytest.skip(f"torch_{name.kind} is installed")
    with pytest.raises(PluginMissingError, match=f"torch has no {name.torch_name}"):
        opener(name)


def test_host_memory_without_an_accelerator():
    buffer = allocate_host(10_000, DeviceName(DeviceKind.CPU))
    assert buffer.array.shape == (10_000,)
    assert buffer.array.dtype == np.uint8
    assert buffer.address % 4096 == 0
    assert not buffer.is_pinned
    buffer.array[:] = 7
    huge = allocate_host(256 << 20, DeviceName(DeviceKind.CPU))
    assert huge.array[-1] == 0  # above most limits on locking, and there all the same


@pytest.mark.parametrize("num_bytes", [0, -1, 1 << 62])
def test_host_memory_that_is_not_there(num_bytes):
    with pytest.raises(MemoryUnavailableError, match=f"no host memory of {num_bytes} bytes"):
        allocate_host(num_bytes, DeviceName(DeviceKind.CPU))


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator")
def test_pinning_without_a_driver():
    with pytest.raises(MemoryUnavailableError, match="no pinned memory of 4096 bytes for cuda:0"):
        allocate_host(4096, DeviceName(DeviceKind.CUDA))
    with pytest.raises(MemoryUnavailableError, match="no CUDA runtime"):
        pin_span(4096, 4096, DeviceName(DeviceKind.ROCM))
    with pytest.raises(MemoryUnavailableError, match="cannot be pinned for npu:0"):
        pin_span(4096, 4096, DeviceName(DeviceKind.NPU))


class _Runtime:
    """The two calls of a CUDA runtime, with a driver's refusal of what is not there."""

    def __init__(self):
        self.calls = []

    def cudaHostRegister(self, address, num_bytes, flags):  # noqa: N802
        self.calls.append(("register", address, num_bytes, flags))
        return 0 if address else 1

    def cudaHostUnregister(self, address):  # noqa: N802
        self.calls.append(("unregister", address))
        return 0


def test_pinning_is_taken_back_once(monkeypatch):
    runtime = _Runtime()
    monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
    span = pin_span(8192, 4096, DeviceName(DeviceKind.CUDA))
    assert isinstance(span, PinnedSpan)
    span.release()
    span.release()
    assert runtime.calls == [("register", 8192, 4096, 1), ("unregister", 8192)]
    with pytest.raises(MemoryUnavailableError, match="pinning 4096 bytes gave CUDA error 1"):
        pin_span(0, 4096, DeviceName(DeviceKind.CUDA))
