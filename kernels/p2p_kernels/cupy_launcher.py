"""Compiles and launches the C++ kernels with CuPy. The only module that imports it.

Written after CuPy 14's documentation; untested on hardware.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from p2p.errors import LocalError, PluginMissingError
from p2p_kernels.launch import THREADS, Argument, Grid

if TYPE_CHECKING:
    import cupy

SOURCES = ("paged_copy", "digest")
OPTIONS = ("-std=c++17",)


def source(name: str) -> str:
    """Returns the text of ``csrc/NAME.cu``."""
    return (Path(__file__).parent / "csrc" / f"{name}.cu").read_text()


class CupyLauncher:
    """Launches on one device, on torch's current stream there.

    Args:
        device: an NVIDIA or AMD device, as torch names it.

    Raises:
        PluginMissingError: CuPy isn't installed, or finds no device.
    """

    def __init__(self, device: torch.device) -> None:
        index: int | None = device.index
        self._index = torch.cuda.current_device() if index is None else index
        self._cupy = _load_cupy()

    def launch(self, kernel: str, grid: Grid, arguments: Sequence[Argument]) -> None:
        """See `Launcher.launch`.

        Raises:
            LocalError: the driver or the compiler refused.
        """
        cupy = self._cupy
        by_value = [np.uint64(each) if isinstance(each, int) else each for each in arguments]
        name = "digest" if kernel.startswith("digest_") else "paged_copy"
        stream = torch.cuda.current_stream(self._index).cuda_stream
        try:
            with cupy.cuda.Device(self._index), cupy.cuda.ExternalStream(stream):
                function = _module(name, self._index).get_function(kernel)
                function(grid, (THREADS, 1, 1), tuple(by_value))
        except (RuntimeError, OSError) as error:  # all of CuPy's errors are RuntimeErrors
            raise LocalError(f"{kernel} on cuda:{self._index}: {error}") from error


def _load_cupy() -> "cupy":
    try:
        import cupy  # noqa: PLC0415 - optional package
    except ImportError as error:
        raise PluginMissingError("CuPy is not installed; pip install 'p2p-kv[cuda]'") from error
    if not cupy.is_available():
        raise PluginMissingError("CuPy is installed but finds no device or no driver")
    return cupy


@cache
def _module(name: str, index: int) -> "cupy.RawModule":
    """Returns a source compiled for the current device, which is the one of this index."""
    import cupy  # noqa: PLC0415 - optional package

    del index  # part of the key: modules belong to a device
    return cupy.RawModule(code=source(name), options=OPTIONS)
