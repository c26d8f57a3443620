"""Which implementation copies: the fastest that can, or the one that was asked for.

On the host that is NumPy: faster than torch in every case measured, in one thread, and without
torch's thread pool, which collapses when other threads compute. On devices it is torch.
"""

from collections.abc import Sequence

from p2p_kernels.base import Copier, Slot, check_gather, check_plan, check_scatter, check_slots
from p2p_kernels.memory import PageMemory
from p2p_kernels.plan import CopyPlan
from p2p_kernels.registry import Implementation, create, device_type


def open_copier(memory: PageMemory, implementation: Implementation = Implementation.AUTO) -> Copier:
    """Returns a copier for a paged cache. Its ``name`` says which implementation it is.

    Raises:
        ArgumentError: the implementation is not for this device.
        PluginMissingError: the implementation needs a package that isn't installed.
    """
    if implementation is Implementation.AUTO:
        on_host = device_type(memory) == "cpu"
        implementation = Implementation.NUMPY if on_host else Implementation.TORCH
    return create(memory, implementation)


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
