"""The CUDA sources built for the host, with a launcher that runs them thread by thread.

Built with the undefined-behaviour sanitizer, so a misaligned access or an overflow, which a device
answers with a fault or with wrong bytes, ends the process here.
"""

import ctypes
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from p2p_kernels import batches
from p2p_kernels.cuda_kernels import CudaCopier, CudaDigester
from p2p_kernels.cupy_launcher import SOURCES, source
from p2p_kernels.launch import THREADS
from tests.unit.kernels.properties import (
    check_digests,
    check_engine_sizes,
    check_gather,
    check_padded_chunks,
    check_scatter,
)

COMPILER = shutil.which("g++") or shutil.which("clang++")
FLAGS = ("-std=c++17", "-O1", "-g", "-shared", "-fPIC", "-Wall", "-Werror", "-Wno-unknown-pragmas")
SANITIZE = ("-fsanitize=undefined", "-fno-sanitize-recover=all")


def kernel_names(text):
    """The kernels of a source, with what its macros make."""
    names = re.findall(r"__global__ void __launch_bounds__\(256\) (\w+)(?!\w|#)\(", text)
    for macro, pattern in (("PAGED_COPY", "paged_{}_"), ("DIGEST", "digest_{}_")):
        parts = {"PAGED_COPY": ("gather", "scatter"), "DIGEST": ("sums", "lanes")}[macro]
        widths = re.findall(rf"^{macro}\((\d+), ", text, re.MULTILINE)
        names += [pattern.format(part) + width for part in parts for width in widths]
    return names


def build(folder: Path) -> Path:
    """Compiles all sources into one library."""
    library = folder / "kernels.so"
    for name in SOURCES:
        text = source(name)
        entries = "\n".join(f"HOST_KERNEL({kernel})" for kernel in kernel_names(text))
        (folder / f"{name}.cpp").write_text(f'#include "host_cuda.h"\n{text}\n{entries}\n')
    units = [str(folder / f"{name}.cpp") for name in SOURCES]
    include = f"-I{Path(__file__).parent}"
    command = [str(COMPILER), *FLAGS, *SANITIZE, include, *units, "-o", str(library)]
    subprocess.run(command, check=True, timeout=120)
    return library


class HostLauncher:
    """Launches kernels of the built library on host memory; a `Launcher`."""

    def __init__(self, library: Path):
        self._library = ctypes.CDLL(str(library))

    @cache  # noqa: B019 - one launcher per process
    def _kernel(self, name):
        function = getattr(self._library, f"host_{name}")
        function.restype = None
        return function

    def launch(self, kernel, grid, arguments):
        by_value = [
            np.array([each], np.uint64) if isinstance(each, int) else np.atleast_1d(each)
            for each in arguments
        ]
        pointers = (ctypes.c_void_p * len(by_value))(*(each.ctypes.data for each in by_value))
        blocks = (ctypes.c_uint * 3)(*grid)
        self._kernel(kernel)(pointers, blocks, ctypes.c_uint(THREADS))


def main(library, examples):
    launcher = HostLauncher(library)

    def opened(memory):
        return CudaCopier(memory, launcher)

    check_gather(opened, examples)
    check_scatter(opened, examples)
    check_engine_sizes(opened)
    check_padded_chunks(opened)
    # The way of slots that are on another device, several launches a call.
    with (
        patch.object(batches, "_staged", lambda slot, _: torch.full_like(slot, 77)),
        patch.object(batches, "_MAX_CHUNKS", 2),
    ):
        check_gather(opened, examples)
        check_scatter(opened, examples)
        check_padded_chunks(opened)
    check_digests(CudaDigester(torch.device("cpu"), launcher))
    print("passed")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
