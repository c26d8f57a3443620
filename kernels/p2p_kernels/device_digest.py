"""Digests of chunks on the device that holds them.

The function is that of `p2p_kernels.digest`; `digest_numpy` spells it out. Only leaves are
digested on devices, where their bytes lie. Roots take eight bytes of every leaf and are made on
the host, by `root_digest`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from p2p.errors import ArgumentError
from p2p_kernels.base import Slot

if TYPE_CHECKING:
    import torch

MIN_LEAF_BYTES = 241  # XXH3 has other formulas for shorter inputs, which no layout has as leaves


class LeafDigester(Protocol):
    """Digests many leaves in one call, on one device."""

    def leaf_digests(self, slots: Sequence[Slot], leaf_bytes: int) -> "torch.Tensor":
        """Returns (C, leaves per chunk) int64 on the device: the bits of the leaves' digests.

        Ordered on torch's current stream. On the host, ``.numpy().view(numpy.uint64)`` is what
        `p2p_kernels.leaf_digests` returns.

        Args:
            slots: C chunks, equally long uint8 on the device.
            leaf_bytes: bytes of a leaf, `MIN_LEAF_BYTES` at least.

        Raises:
            ArgumentError: the slots are elsewhere, or no whole number of such leaves.
        """
        ...


def check_leaves(chunks: "Sequence[torch.Tensor]", leaf_bytes: int, device: "torch.device") -> int:
    """Returns how many leaves a chunk has.

    Raises:
        ArgumentError: see `LeafDigester.leaf_digests`.
    """
    if leaf_bytes < MIN_LEAF_BYTES:
        raise ArgumentError("leaf_bytes", leaf_bytes, f"devices take {MIN_LEAF_BYTES} and more")
    if not chunks:
        raise ArgumentError("slots", [], "at least one chunk")
    for number, chunk in enumerate(chunks):
        if chunk.device != device:
            raise ArgumentError(f"slots[{number}].device", str(chunk.device), f"not on {device}")
        if chunk.numel() != chunks[0].numel() or chunk.numel() % leaf_bytes or not chunk.numel():
            reason = f"a chunk of {chunk.numel()} bytes; all are alike and of whole leaves"
            raise ArgumentError("leaf_bytes", leaf_bytes, reason)
    return chunks[0].numel() // leaf_bytes
