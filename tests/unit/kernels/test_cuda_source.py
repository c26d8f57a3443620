"""The CUDA C++ sources: run on the host under the sanitizer, compiled for devices."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from p2p.errors import ArgumentError, PluginMissingError
from p2p.kernels import Implementation, PageAxes, PageMemory, open_copier
from p2p_kernels.cuda_kernels import CudaDigester
from p2p_kernels.cupy_launcher import OPTIONS, SOURCES, source
from tests.unit.kernels import nvrtc
from tests.unit.kernels.children import run_child
from tests.unit.kernels.cuda_on_host import COMPILER, build, kernel_names

NVCC = shutil.which("nvcc")
CLANG = shutil.which("clang++-19")
ARCHITECTURES = ["sm_80", "sm_90", "sm_100"]


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
def test_the_host_runs_the_sources(tmp_path):
    library = build(tmp_path)
    assert run_child("tests.unit.kernels.cuda_on_host", library, 150).endswith("passed\n")


@pytest.mark.slow
@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvcc_compiles_the_sources(tmp_path, architecture):
    for name in SOURCES:
        path = tmp_path / f"{name}.cu"
        path.write_text(source(name))
        flags = [*OPTIONS, f"-arch={architecture}", "-Werror=all-warnings", "-Xptxas=-v"]
        command = [NVCC, *flags, "-cubin", "-o", tmp_path / f"{name}.cubin", path]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 0, result.stderr
        compiled = re.findall(r"Compiling entry function '(\w+)'", result.stderr)
        assert sorted(compiled) == sorted(kernel_names(source(name)))
        spills = re.findall(r"(\d+) bytes spill", result.stderr)
        assert spills
        assert set(spills) == {"0"}


@pytest.mark.skipif(nvrtc.folder() is None, reason="nvidia-cuda-nvrtc 13 is not installed")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvrtc_compiles_the_sources(architecture):
    """As CuPy does it at the first launch."""
    for name in SOURCES:
        options = [*OPTIONS, f"--gpu-architecture={architecture}"]
        code = nvrtc.compile_cubin(source(name), options, nvrtc.folder())
        assert code.startswith(b"\x7fELF")
        assert all(kernel.encode() in code for kernel in kernel_names(source(name)))


@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")
def test_a_wide_copy_is_one_access(tmp_path):
    (tmp_path / "paged_copy.cu").write_text(source("paged_copy"))
    out = tmp_path / "paged_copy.ptx"
    command = [NVCC, *OPTIONS, "-arch=sm_90", "--ptx", "-o", out, tmp_path / "paged_copy.cu"]
    subprocess.run(command, check=True, timeout=60)
    text = out.read_text()
    for kernel, wanted in (("gather_16", "v4.u32"), ("gather_8", "u64"), ("scatter_16", "v4.u32")):
        body = text.split(f".entry paged_{kernel}(")[1].split(".entry")[0]
        for way in ("ld", "st"):
            assert len(re.findall(rf"{way}\.global(?:\.nc)?\.{wanted}", body)) >= 4, (kernel, way)


@pytest.mark.slow
@pytest.mark.skipif(CLANG is None, reason="clang++-19 is not installed (Debian's clang-19)")
@pytest.mark.parametrize("architecture", ["gfx906", "gfx90a", "gfx942"])
def test_clang_compiles_the_sources_for_amd(tmp_path, architecture):
    header = Path(__file__).parent / "hip_without_rocm.h"
    flags = ["-x", "hip", f"--offload-arch={architecture}", "--cuda-device-only", "-nogpuinc"]
    flags += ["-nogpulib", *OPTIONS, "-O3", "-Wall", "-Werror", "-Wno-unused-command-line-argument"]
    for name in SOURCES:
        (tmp_path / f"{name}.cu").write_text(source(name))
        out = tmp_path / f"{name}.s"
        command = [CLANG, *flags, "-include", header, "-S", "-o", out, tmp_path / f"{name}.cu"]
        subprocess.run(command, check=True, timeout=60)
        text = out.read_text()
        kernels = re.findall(r"\.amdhsa_kernel (\w+)", text)
        assert sorted(kernels) == sorted(kernel_names(source(name)))
        assert set(re.findall(r"; ScratchSize: (\d+)", text)) == {"0"}
        if name == "paged_copy":
            order = re.findall(r"(?:flat|global)_(load_dwordx4)|s_waitcnt (vmcnt)", text)
            steps = "".join("L" if load else "w" for load, _ in order)
            assert steps.count("LLLL") == 2, "four loads under way, either way"


def test_without_cupy_or_a_device(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(PluginMissingError, match="CuPy is not installed"):
        CudaDigester(torch.device("cuda", 0))
    memory = PageMemory.of_tensors(np.zeros((5, 4, 8), np.int16), PageAxes.MLA)
    with pytest.raises(ArgumentError, match=r"^device = 'cpu': cuda is for caches on cuda"):
        open_copier(memory, Implementation.CUDA)
