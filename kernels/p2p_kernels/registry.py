"""The implementations by name: where each can run, what it needs, and who makes it.

To add one: a name in `Implementation` and a row in `ENTRIES`. Nothing of an implementation is
imported before it is opened. A maker takes the `PageMemory` and returns a `Copier`; it raises
`ArgumentError` or `PluginMissingError` where it cannot run, which is then the reason shown.
"""

import os
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import import_module
from importlib.util import find_spec

from p2p.errors import ArgumentError, PluginMissingError
from p2p_kernels.base import Copier
from p2p_kernels.costs import Cost
from p2p_kernels.devices.detection import Machine, guard_torch_import
from p2p_kernels.memory import PageMemory


class Implementation(StrEnum):
    """The implementations by name; ``AUTO`` chooses among those that can run."""

    AUTO = "auto"
    REFERENCE = "reference"
    NUMPY = "numpy"
    NUMPY_THREADS = "numpy-threads"
    TORCH = "torch"
    COMPILE = "compile"
    TRITON = "triton"
    CUDA = "cuda"
    DMA = "dma"
    VENDOR = "vendor"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of an implementation without importing it.

    Attributes:
        maker: ``module:name`` of a callable from `PageMemory` to `Copier`.
        devices: types of devices by torch's names (ROCm and DCU are ``cuda``); empty for all.
        packages: what must be installed, by the names that are imported.
        seed: what copies are taken to cost until somebody measured.
        starts_slowly: the first call takes many seconds: chosen once it was measured on request.
    """

    maker: str
    devices: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    seed: Cost = field(default_factory=Cost)
    starts_slowly: bool = False


_HOST, _ALL, _TORCH = ("cpu",), (), ("torch",)
ENTRIES: dict[Implementation, Entry] = {  # those that need more, or are a last resort, come later
    Implementation.NUMPY: Entry(
        "p2p_kernels.numpy_kernels:NumpyCopier", _HOST, seed=Cost(1e-5, 3e-6, 1e-8, 1.5e-10)
    ),
    Implementation.NUMPY_THREADS: Entry(
        "p2p_kernels.numpy_kernels:ThreadedNumpyCopier", _HOST, seed=Cost(1e-4, 6e-6, 1e-8, 1.5e-10)
    ),
    Implementation.TORCH: Entry(
        "p2p_kernels.torch_kernels:TorchCopier", _ALL, _TORCH, Cost(2e-5, 8e-6, 1e-8, 2e-10)
    ),
    Implementation.COMPILE: Entry(
        "p2p_kernels.compile_kernels:CompiledCopier",
        ("cpu", "cuda"), _TORCH, Cost(2e-5, 5e-5, 1e-8, 2e-10), starts_slowly=True,
    ),
    Implementation.TRITON: Entry(
        "p2p_kernels.triton_kernels:TritonCopier",
        ("cuda",), ("torch", "triton"), Cost(4e-5, 0, 1e-10, 1e-12),
    ),
    Implementation.CUDA: Entry(
        "p2p_kernels.cuda_kernels:CudaCopier",
        ("cuda",), ("torch", "cupy"), Cost(3e-5, 0, 1e-10, 1e-12),
    ),
    Implementation.DMA: Entry(
        "p2p_kernels.dma_kernels:DmaCopier",
        ("cuda",), ("torch", "cuda"), Cost(2e-5, 0, 1e-6, 1e-12),
    ),
    Implementation.VENDOR: Entry(
        "p2p_kernels.vendor_kernels:VendorCopier",
        ("npu", "mlu"), _TORCH, Cost(2e-5, 5e-5, 0, 2e-12),
    ),
    Implementation.REFERENCE: Entry(
        "p2p_kernels.reference:ReferenceCopier", _HOST, seed=Cost(5e-6, 5e-6, 5e-7, 2e-10)
    ),
}  # fmt: skip


def device_type(memory: PageMemory) -> str:
    """Returns the type of a cache's device, such as ``cuda`` for ``cuda:0``."""
    return memory.spec.device.partition(":")[0]


def create(memory: PageMemory, implementation: Implementation) -> Copier:
    """Returns a copier of one implementation.

    Raises:
        ArgumentError: the implementation is not for this device.
        PluginMissingError: it needs a package that isn't installed or cannot be loaded.
    """
    entry = ENTRIES[implementation]
    if entry.devices and device_type(memory) not in entry.devices:
        reason = f"{implementation} is for caches on {' or '.join(entry.devices)}"
        raise ArgumentError("device", memory.spec.device, reason)
    for package in entry.packages:
        if find_spec(package) is None:
            raise PluginMissingError(f"{package} is not installed; {implementation} needs it")
    if "torch" in entry.packages:
        guard_torch_import(Machine.here(), os.environ)
    module, _, name = entry.maker.partition(":")
    try:
        make = getattr(import_module(module), name)
    except (ImportError, RuntimeError) as error:  # torch raises RuntimeError for broken plugins
        raise PluginMissingError(f"{implementation} cannot be loaded: {error}") from error
    copier: Copier = make(memory)
    return copier
