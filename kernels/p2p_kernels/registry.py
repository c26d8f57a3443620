"""The implementations by name: where each can run, what it needs, and who makes it.

To add one: a name in `Implementation` and a row in `ENTRIES`. Nothing of an implementation is
imported before it is opened. A maker takes the `PageMemory` and returns a `Copier`; it raises
`ArgumentError` or `PluginMissingError` where it cannot run, which is then the reason shown.
"""

from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from importlib.util import find_spec

from p2p.errors import ArgumentError, PluginMissingError
from p2p_kernels.base import Copier
from p2p_kernels.memory import PageMemory


class Implementation(StrEnum):
    """The implementations by name; ``AUTO`` chooses among those that can run."""

    AUTO = "auto"
    REFERENCE = "reference"
    NUMPY = "numpy"
    TORCH = "torch"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of an implementation without importing it.

    Attributes:
        maker: ``module:name`` of a callable from `PageMemory` to `Copier`.
        devices: types of devices by torch's names (ROCm and DCU are ``cuda``); empty for all.
        packages: what must be installed, by the names that are imported.
    """

    maker: str
    devices: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


ENTRIES: dict[Implementation, Entry] = {
    Implementation.REFERENCE: Entry("p2p_kernels.reference:ReferenceCopier", ("cpu",)),
    Implementation.NUMPY: Entry("p2p_kernels.numpy_kernels:NumpyCopier", ("cpu",)),
    Implementation.TORCH: Entry("p2p_kernels.torch_kernels:TorchCopier", (), ("torch",)),
}


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
    module, _, name = entry.maker.partition(":")
    try:
        make = getattr(import_module(module), name)
    except ImportError as error:
        raise PluginMissingError(f"{implementation} cannot be loaded: {error}") from error
    copier: Copier = make(memory)
    return copier
