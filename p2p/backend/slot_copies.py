"""Copies between arrays of the host and slots of a pool, wherever that lies."""

import numpy as np

from p2p.backend.pool import SlotBytes
from p2p.kernels import Slot


def copy_in(chunk: SlotBytes, slot: Slot) -> None:
    """Copies a chunk into a slot; done when it returns."""
    if isinstance(slot, np.ndarray):
        np.copyto(slot, chunk)
        return
    import torch  # noqa: PLC0415  who has such a slot has torch

    slot.copy_(torch.from_numpy(np.array(chunk)))


def on_host(slot: Slot) -> SlotBytes:
    """Returns the bytes of a slot, to read only: themselves, or a copy of what is on a device."""
    array: SlotBytes = slot if isinstance(slot, np.ndarray) else slot.cpu().numpy().copy()
    array.flags.writeable = False
    return array
