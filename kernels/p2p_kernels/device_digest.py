"""Digests of chunks on the device that holds them.

The function is that of `p2p_kernels.digest`; `digest_numpy` spells it out. Only leaves are
digested on devices, where their bytes lie. Roots take eight bytes of every leaf and are made on
the host, by `root_digest`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from p2p.errors import ArgumentError, LocalError, PluginMissingError
from p2p_kernels.base import Slot
from p2p_kernels.devices.names import DeviceName

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


def open_leaf_digester(device: str) -> LeafDigester:
    """Returns what digests on a device: the C++ kernels where CuPy is installed, else Triton's.

    Args:
        device: such as ``cuda:0``; see `DeviceName.parse`. On the host `leaf_digests` is for that.

    Raises:
        ArgumentError: the device is no GPU.
        PluginMissingError: neither is installed, or neither finds the device.
    """
    name = DeviceName.parse(device)
    if name.torch_type != "cuda":
        raise ArgumentError("device", device, "leaves are digested on GPUs, and on the host")
    reasons = []
    for open_one in (_open_cuda, _open_triton):
        try:
            return open_one(name.torch_name)
        except (ImportError, LocalError) as error:
            reasons.append(str(error))
    raise PluginMissingError(f"nothing digests on {device}: {'; '.join(reasons)}")


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


def _open_cuda(device: str) -> LeafDigester:
    import torch  # noqa: PLC0415 - optional package

    from p2p_kernels.cuda_kernels import CudaDigester  # noqa: PLC0415 - imports torch

    return CudaDigester(torch.device(device))


def _open_triton(device: str) -> LeafDigester:
    import torch  # noqa: PLC0415 - optional package

    from p2p_kernels.triton_digest import TritonDigester  # noqa: PLC0415 - imports Triton

    if not torch.cuda.is_available():
        raise PluginMissingError("torch finds no GPU")
    return TritonDigester(torch.device(device))
