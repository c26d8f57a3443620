"""Which implementation copies: the one that was asked for, or the cheapest for each copy."""

from collections.abc import Sequence

from p2p.config import load_settings
from p2p_kernels.base import Copier, Slot, check_gather, check_plan, check_scatter, check_slots
from p2p_kernels.candidates import open_adaptive
from p2p_kernels.memory import PageMemory
from p2p_kernels.plan import CopyPlan, CopyShape
from p2p_kernels.registry import Implementation, create
from p2p_kernels.settings import KernelSettings


def open_copier(
    memory: PageMemory,
    implementation: Implementation = Implementation.AUTO,
    settings: KernelSettings | None = None,
    shape: CopyShape | None = None,
) -> Copier:
    """Returns a copier for a paged cache. Its ``name`` says which implementation it is.

    Args:
        memory: the paged cache.
        implementation: forces one; so do the settings, if this is ``AUTO``.
        settings: by default from the environment, ``P2P_KERNELS_…``.
        shape: what most copies will be; costs of its kind are measured if nobody has.

    Raises:
        ArgumentError: the implementation is not for this device.
        ConfigError: a bad value in the environment.
        PluginMissingError: the implementation needs a package that isn't installed.
    """
    if implementation is not Implementation.AUTO:
        return create(memory, implementation)
    settings = settings or load_settings(KernelSettings)
    forced = Implementation(settings.implementation)
    if forced is not Implementation.AUTO:
        return create(memory, forced)
    return open_adaptive(memory, settings, shape)


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
