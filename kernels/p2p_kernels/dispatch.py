"""Which implementation copies: the fastest that can, or the one that was asked for.

On the host that is NumPy: faster than torch in every case measured, in one thread, and without
torch's thread pool, which collapses when other threads compute. On devices it is torch.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import assert_never

from p2p.errors import PluginMissingError
from p2p_kernels.base import Copier, Slot, check_gather, check_plan, check_scatter, check_slots
from p2p_kernels.memory import PageMemory
from p2p_kernels.numpy_kernels import NumpyCopier
from p2p_kernels.plan import CopyPlan
from p2p_kernels.reference import ReferenceCopier


class Implementation(StrEnum):
    """The implementations by name; ``AUTO`` chooses."""

    AUTO = "auto"
    REFERENCE = "reference"
    NUMPY = "numpy"
    TORCH = "torch"


def open_copier(memory: PageMemory, implementation: Implementation = Implementation.AUTO) -> Copier:
    """Returns a copier for a paged cache. Its ``name`` says which implementation it is.

    Raises:
        ArgumentError: the implementation is not for this device.
        PluginMissingError: the implementation needs a package that isn't installed.
    """
    match implementation:
        case Implementation.AUTO:
            on_host = memory.spec.device == "cpu"
            return NumpyCopier(memory) if on_host else _open_torch(memory)
        case Implementation.REFERENCE:
            return ReferenceCopier(memory)
        case Implementation.NUMPY:
            return NumpyCopier(memory)
        case Implementation.TORCH:
            return _open_torch(memory)
        case _:
            assert_never(implementation)


def gather(plan: CopyPlan, slots: Sequence[Slot], copier: Copier) -> None:
    """Copies chunks out of a paged cache into slots.

    Args:
        plan: what to copy; has no skipped blocks.
        slots: one per chunk, ``chunk_bytes`` of uint8 each. With a range of heads, the bytes of
            other heads stay as they are.
        copier: see `open_copier`; of the cache that the plan was made for.

    Raises:
        ArgumentError: what does not fit, by name and value; nothing was copied.
    """
    check_plan(plan, copier.memory)
    check_slots(plan, slots)
    check_gather(plan, slots)
    copier.gather(plan, slots)


def scatter(plan: CopyPlan, slots: Sequence[Slot], copier: Copier) -> None:
    """Copies slots into the blocks of a paged cache; the arguments are those of `gather`.

    Raises:
        ArgumentError: what does not fit, by name and value; nothing was copied.
    """
    check_plan(plan, copier.memory)
    check_slots(plan, slots)
    check_scatter(plan, copier.memory)
    copier.scatter(plan, slots)


def _open_torch(memory: PageMemory) -> Copier:
    try:
        from p2p_kernels.torch_kernels import TorchCopier  # noqa: PLC0415 - optional package
    except ImportError as error:
        raise PluginMissingError("torch is not installed; pip install 'p2p-kv[torch]'") from error
    return TorchCopier(memory)
