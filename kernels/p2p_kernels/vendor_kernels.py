"""Vendor: the paged-cache operators of Ascend's torch_npu and Cambricon's torch_mlu_ops.

They copy K and V of one layer between pages and tokens, ``[token][head][dim]``; chunks are head by
head, so each call is followed or preceded by a transposing copy of aten. They are used where a
cache is of the shape that they are documented for. Everything else goes to `TorchCopier`, whose
aten operators both vendors have. Untested on hardware.

Shapes: B blocks, P tokens per block, H heads, D head dim, T tokens of a chunk, N blocks of it.
"""

import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from p2p.errors import ArgumentError
from p2p_kernels.base import Slot
from p2p_kernels.memory import PageMemory
from p2p_kernels.plan import SKIP_BLOCK, CopyPlan, CopyShape, Int64s
from p2p_kernels.torch_kernels import TorchCopier, as_tensor, plane_bytes
from p2p_kernels.vendor_operators import (
    MluOperators,
    NpuOperators,
    Pair,
    TokenPlaces,
    VendorOperators,
)

_log = logging.getLogger(__name__)
_OPENER_BY_DEVICE: dict[str, Callable[[], VendorOperators]] = {
    "npu": NpuOperators,
    "mlu": MluOperators,
}


class VendorCopier:
    """Copies on an NPU or MLU, by the vendor's operators where they fit.

    Raises:
        ArgumentError: there are no operators, and the device is no NPU or MLU.
        PluginMissingError: the vendor's package isn't loaded, or lacks the operators.
    """

    name = "vendor"

    def __init__(self, memory: PageMemory, operators: VendorOperators | None = None) -> None:
        self.memory = memory
        self._operators = operators or _open_operators(memory.spec.device)
        self._portable = TorchCopier(memory)
        self._caches = _cache_views(memory, self._operators)
        if self._caches is None:
            _log.info("vendor: %s goes to aten's operators", memory.spec)

    def gather(self, plan: CopyPlan, slots: Sequence[Slot]) -> None:
        """See `Copier.gather`. Returns after the copy for slots on the host."""
        chunks = self._chunk_views(plan.shape, slots)
        if chunks is None or self._caches is None:
            self._portable.gather(plan, slots)
            return
        for ids, chunk in zip(plan.block_ids, chunks, strict=True):
            places = _places(ids, self.memory.spec.block_tokens, chunk.device)
            for first, second in _pairs(len(self._caches)):
                caches = Pair(self._caches[first], self._caches[second])
                tokens = Pair(*(_empty_tokens(chunk[plane]) for plane in (first, second)))
                self._operators.gather(caches, places, tokens)
                chunk[first].copy_(tokens.key.transpose(0, 1))
                chunk[second].copy_(tokens.value.transpose(0, 1))

    def scatter(self, plan: CopyPlan, slots: Sequence[Slot]) -> None:
        """See `Copier.scatter`."""
        chunks = self._chunk_views(plan.shape, slots)
        if chunks is None or self._caches is None:
            self._portable.scatter(plan, slots)
            return
        block_tokens = self.memory.spec.block_tokens
        for ids, chunk in zip(plan.block_ids, chunks, strict=True):
            kept = ids != SKIP_BLOCK
            if not kept.any():
                continue
            places = _places(ids[kept], block_tokens, chunk.device)
            kept_T = None
            if not kept.all():
                tokens = np.flatnonzero(np.repeat(kept, block_tokens))
                kept_T = torch.from_numpy(tokens).to(chunk.device)
            for first, second in _pairs(len(self._caches)):
                caches = Pair(self._caches[first], self._caches[second])
                given = Pair(_tokens(chunk[first], kept_T), _tokens(chunk[second], kept_T))
                self._operators.scatter(given, places, caches)

    def _chunk_views(self, shape: CopyShape, slots: Sequence[Slot]) -> list[torch.Tensor] | None:
        """Returns slots as (planes, H, T, D), or none if this call is not for the operators.

        All heads are copied, by whole blocks, and slots are on the device at addresses that are
        multiples of an element.
        """
        if self._caches is None or shape.group_tokens != shape.page.block_tokens:
            return None
        page, chunk = shape.page, shape.chunk
        if shape.heads.count != page.num_heads or chunk.num_planes != len(self._caches):
            return None
        like = self._caches[0]
        item = like.element_size()
        tensors = [as_tensor(slot) for slot in slots]
        if any(tensor.device != like.device for tensor in tensors):
            return None
        strides = (chunk.stride_plane, chunk.stride_head, chunk.stride_token)
        starts = [start for each in tensors for start in (each.data_ptr(), each.storage_offset())]
        if any(number % item for number in (*strides, shape.chunk_start, *starts)):
            return None
        sizes = (chunk.num_planes, page.num_heads, chunk.chunk_tokens, page.row_bytes // item)
        in_items = (*(stride // item for stride in strides), 1)
        return [
            tensor[shape.chunk_start :].view(like.dtype).as_strided(sizes, in_items)
            for tensor in tensors
        ]


def _open_operators(device: str) -> VendorOperators:
    opener = _OPENER_BY_DEVICE.get(device.partition(":")[0])
    if opener is None:
        raise ArgumentError("device", device, f"vendor is for {' and '.join(_OPENER_BY_DEVICE)}")
    return opener()


def _cache_views(memory: PageMemory, operators: VendorOperators) -> list[torch.Tensor] | None:
    """Returns every plane in the order of axes that the operators take, or none if one can't be.

    Planes have to be without padding, of a type that the operators take, at least two (they take
    two at once), and their tokens have to be countable in 32 bits.
    """
    page = memory.spec
    dtype = _element_type(memory, operators)
    sizes = _dense_sizes(memory, operators.axes)
    if dtype is None or sizes is None or len(page.planes) < 2:
        return None
    if page.num_blocks * page.block_tokens >= 1 << 31:
        return None
    if any(address % dtype.itemsize for address in page.planes):
        return None
    elements = (*sizes[:-1], page.row_bytes // dtype.itemsize)
    return [plane.view(dtype).view(elements) for plane in plane_bytes(memory)]


def _element_type(memory: PageMemory, operators: VendorOperators) -> torch.dtype | None:
    """Returns the cache's own type, int8 for others of a byte, or none."""
    own = next((each for each in operators.dtypes if str(each) == f"torch.{memory.dtype}"), None)
    if own is None and memory.spec.item_bytes == 1:
        return torch.int8
    return own


def _dense_sizes(memory: PageMemory, axes: str) -> tuple[int, ...] | None:
    """Returns a plane's sizes in this order of axes, or none if it is another or has padding."""
    page = memory.spec
    by_axis = {
        "B": (page.num_blocks, page.stride_block),
        "P": (page.block_tokens, page.stride_token),
        "H": (page.num_heads, page.stride_head),
        "D": (page.head_dim, page.item_bytes),
    }
    expected = page.item_bytes
    for axis in reversed(axes):
        size, stride = by_axis[axis]
        if size > 1 and stride != expected:
            return None
        expected *= size
    return tuple(by_axis[axis][0] for axis in axes)


def _pairs(num_planes: int) -> Iterator[tuple[int, int]]:
    """Yields planes two by two; with an odd number of them the last but one comes twice."""
    for first in range(0, num_planes - 1, 2):
        yield first, first + 1
    if num_planes % 2:
        yield num_planes - 2, num_planes - 1


def _places(ids: Int64s, block_tokens: int, device: torch.device) -> TokenPlaces:
    slots = (ids[:, None] * block_tokens + np.arange(block_tokens)).ravel()
    words = np.concatenate([ids, [slots.size], slots]).astype(np.int32)
    on_device = torch.from_numpy(words).to(device)
    table, count = on_device[None, : ids.size], on_device[ids.size : ids.size + 1]
    return TokenPlaces(table, count, on_device[ids.size + 1 :])


def _empty_tokens(plane: torch.Tensor) -> torch.Tensor:
    heads, tokens, dim = plane.shape
    return plane.new_empty((tokens, heads, dim))


def _tokens(plane: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
    tokens_THD = plane.transpose(0, 1)
    return tokens_THD.contiguous() if kept is None else tokens_THD.index_select(0, kept)
