"""What every implementation of gather and scatter promises, and what a slot is."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from p2p.errors import ArgumentError
from p2p_kernels.memory import PageMemory, Uint8s, host_bytes
from p2p_kernels.plan import CopyPlan

if TYPE_CHECKING:
    import torch

Slot: TypeAlias = "Uint8s | torch.Tensor"


class Copier(Protocol):
    """Copies between one paged cache and slots. Prepared once per cache, then called often.

    Plan and slots were checked (see `check_slots`). On a device both calls are ordered on the
    current stream; with all memory on the host they are done when they return, hold no lock of
    the interpreter while bytes move, and may run in several threads at once.
    """

    @property
    def name(self) -> str:
        """Which implementation this is."""
        ...

    @property
    def memory(self) -> PageMemory:
        """The paged cache."""
        ...

    def gather(self, plan: CopyPlan, slots: Sequence[Slot]) -> None:
        """Copies each chunk's blocks into its slot; other bytes of the slot stay as they are."""
        ...

    def scatter(self, plan: CopyPlan, slots: Sequence[Slot]) -> None:
        """Copies each slot into its chunk's blocks; other blocks and heads stay as they are."""
        ...


def check_plan(plan: CopyPlan, memory: PageMemory) -> None:
    """Raises `ArgumentError` if a plan was made for another paged cache."""
    page = plan.shape.page
    if page is not memory.spec and page != memory.spec:
        raise ArgumentError("plan", page, f"made for another cache than {memory.spec}")


def check_slots(plan: CopyPlan, slots: Sequence[Slot]) -> None:
    """Raises `ArgumentError` unless every slot of a plan is a span of ``chunk_bytes`` bytes."""
    if len(slots) != plan.num_chunks:
        reason = f"the block ids are those of {plan.num_chunks} chunks"
        raise ArgumentError("slots", f"{len(slots)} slots", reason)
    chunk_bytes = plan.shape.chunk.chunk_bytes
    for number, slot in enumerate(slots):
        name = f"slots[{number}]"
        if not isinstance(slot, np.ndarray):
            _check_torch_slot(name, slot)
        elif slot.dtype != np.uint8 or not slot.flags.c_contiguous:
            raise ArgumentError(name, f"{slot.dtype} {slot.shape}", "contiguous uint8")
        if slot.ndim != 1 or slot.shape[0] != chunk_bytes:
            raise ArgumentError(name, tuple(slot.shape), f"a chunk has {chunk_bytes} bytes")


def check_gather(plan: CopyPlan, slots: Sequence[Slot]) -> None:
    """Raises `ArgumentError` for what `scatter` may do and `gather` may not."""
    if plan.block_ids.size and int(plan.block_ids.min()) < 0:
        reason = "a chunk has all of its blocks; only scatter may leave one out"
        raise ArgumentError("block_ids", int(plan.block_ids.min()), reason)
    for number, slot in enumerate(slots):
        if isinstance(slot, np.ndarray) and not slot.flags.writeable:
            raise ArgumentError(f"slots[{number}]", "read-only array", "gather writes into it")


def check_scatter(plan: CopyPlan, memory: PageMemory) -> None:
    """Raises `ArgumentError` for what `gather` may do and `scatter` may not."""
    if not memory.is_writable:
        raise ArgumentError("tensors", "read-only array", "scatter writes into it")
    ids, counts = np.unique(plan.block_ids[plan.block_ids >= 0], return_counts=True)
    if counts.size and int(counts.max()) > 1:
        twice = int(ids[int(counts.argmax())])
        raise ArgumentError("block_ids", twice, "scatter writes a block once")


def host_slot(slot: Slot) -> Uint8s:
    """Returns a slot in host memory as an array over the same bytes.

    Raises:
        ArgumentError: the slot is on a device.
    """
    if isinstance(slot, np.ndarray):
        return slot
    if slot.device.type != "cpu":
        raise ArgumentError("slot.device", str(slot.device), "this implementation is for the host")
    return host_bytes(slot.data_ptr(), slot.numel(), is_writable=True)


def check_host(memory: PageMemory, implementation: str) -> None:
    """Raises `ArgumentError` unless a cache is in host memory."""
    if memory.spec.device != "cpu":
        reason = f"{implementation} is for caches in host memory"
        raise ArgumentError("device", memory.spec.device, reason)


def _check_torch_slot(name: str, slot: "torch.Tensor") -> None:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(slot, torch.Tensor):
        raise ArgumentError(name, type(slot).__name__, "an array or a torch tensor of uint8")
    if slot.dtype != torch.uint8 or not slot.is_contiguous():
        raise ArgumentError(name, f"{slot.dtype} {tuple(slot.shape)}", "contiguous uint8")
