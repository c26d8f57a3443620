"""Chunks of a call as kernels take them: ids and addresses on the device, many chunks a launch.

Slots on the device are used as they are. Slots elsewhere go through memory there, so many at a
time as fit a limit. Nothing here is shared between calls, so threads need no lock; torch's
allocator hands memory on in the order of the current stream, on which everything runs.

Shapes: C chunks of a batch, N blocks of a chunk.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch

from p2p_kernels.base import Slot
from p2p_kernels.plan import CopyPlan, CopyShape
from p2p_kernels.torch_kernels import as_tensor, copy_span, has_gaps

_STAGING_BYTES = 64 << 20
_MAX_CHUNKS = 65535  # what the third axis of a launch can count


class Batch(NamedTuple):
    """What one launch copies.

    Attributes:
        num_chunks: C.
        block_ids: (C, N) int64 on the device.
        slots: (C,) int64 on the device, addresses.
        access_bytes: widest access that everything in it allows.
    """

    num_chunks: int
    block_ids: torch.Tensor
    slots: torch.Tensor
    access_bytes: int


def gather_batches(plan: CopyPlan, slots: Sequence[Slot], device: torch.device) -> Iterator[Batch]:
    """Yields what to launch; the caller launches each before it takes the next.

    Slots that are elsewhere are filled behind each launch, so run this to its end.
    """
    for first, given in _parts(plan, slots, device):
        targets = [as_tensor(slot) for slot in given]
        staged = [_staged(target, device) for target in targets]
        if has_gaps(plan.shape):  # which are copied back too
            _copy_all(plan.shape, targets, staged)
        yield _batch(plan, first, staged)
        _copy_all(plan.shape, staged, targets)


def scatter_batches(plan: CopyPlan, slots: Sequence[Slot], device: torch.device) -> Iterator[Batch]:
    """Yields what to launch; slots that are elsewhere were copied before each."""
    for first, given in _parts(plan, slots, device):
        sources = [as_tensor(slot) for slot in given]
        staged = [_staged(source, device) for source in sources]
        _copy_all(plan.shape, sources, staged)
        yield _batch(plan, first, staged)


def on_device(words: Sequence[int], device: torch.device) -> torch.Tensor:
    """Returns (len,) int64 on a device, without waiting for it."""
    values = torch.tensor(words, dtype=torch.int64)
    return values if device.type == "cpu" else values.pin_memory().to(device, non_blocking=True)


def _parts(
    plan: CopyPlan, slots: Sequence[Slot], device: torch.device
) -> Iterator[tuple[int, Sequence[Slot]]]:
    """Yields slots with the number of the first, all at once if none needs staging."""
    at_once = _MAX_CHUNKS
    if any(as_tensor(slot).device != device for slot in slots):
        at_once = max(1, _STAGING_BYTES // plan.shape.chunk.chunk_bytes)
    for first in range(0, len(slots), at_once):
        yield first, slots[first : first + at_once]


def _copy_all(
    shape: CopyShape, sources: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]
) -> None:
    for source, target in zip(sources, targets, strict=True):
        if source is not target:
            copy_span(shape, source, target)


def _staged(slot: torch.Tensor, device: torch.device) -> torch.Tensor:
    return slot if slot.device == device else torch.empty_like(slot, device=device)


def _batch(plan: CopyPlan, first: int, staged: Sequence[torch.Tensor]) -> Batch:
    addresses = [slot.data_ptr() for slot in staged]
    ids = plan.block_ids[first : first + len(staged)]
    packed = on_device([*ids.ravel().tolist(), *addresses], staged[0].device)
    access = plan.access_bytes(addresses)
    return Batch(len(staged), packed[: ids.size].view(ids.shape), packed[ids.size :], access)


def device_scope(device: torch.device) -> AbstractContextManager[object]:
    """Makes a device torch's current one: Triton launches on that, wherever its arguments lie."""
    return nullcontext() if device.type == "cpu" else torch.get_device_module(device).device(device)
