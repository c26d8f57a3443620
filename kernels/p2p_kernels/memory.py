"""An engine's cache tensors, described as pages.

The axes of a tensor are named by letters, in the order of its shape: L layers, K K-or-V, B blocks,
P tokens per block, H heads, D head dim; X is an opaque block's content, whatever axes it has, or
behind H the content of each head. The strides are the tensor's own, so permuted and padded tensors
need nothing special.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from p2p.errors import ArgumentError
from p2p.layout import ITEM_BYTES_BY_DTYPE
from p2p_kernels.specs import PageSpec

if TYPE_CHECKING:
    import torch

Tensor: TypeAlias = "npt.NDArray[np.generic[object]] | torch.Tensor"
Tensors: TypeAlias = "Tensor | Sequence[Tensor | Sequence[Tensor]]"
Uint8s = npt.NDArray[np.uint8]


class PageAxes(StrEnum):
    """The usual engine layouts; any other order of the letters does as well.

    In one tensor per layer, with K and V together or in one tensor each (then all tensors in the
    order layer 0 K, layer 0 V, layer 1 K, …), or in one tensor for all layers.
    """

    KV_FIRST_NHD = "KBPHD"
    KV_FIRST_HND = "KBHPD"
    BLOCK_FIRST_NHD = "BKPHD"
    BLOCK_FIRST_HND = "BKHPD"
    SEPARATE_NHD = "BPHD"
    SEPARATE_HND = "BHPD"
    MLA = "BPD"
    CROSS_LAYER_NHD = "BLKPHD"
    CROSS_LAYER_HND = "BLKHPD"
    CROSS_LAYER_MLA = "BLPD"
    OPAQUE = "BX"
    OPAQUE_KV_FIRST = "KBX"


class _Strided(NamedTuple):
    """What numpy and torch tensors have in common; strides in bytes."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    item_bytes: int
    dtype: str
    device: str
    is_writable: bool


@dataclass(frozen=True, slots=True, eq=False)
class PageMemory:
    """A paged cache with the tensors that own its memory, which it keeps alive.

    Attributes:
        spec: where the pages lie.
        tensors: the owners; ``spec.planes`` are spread over them evenly and in order.
        dtype: element type by torch's name.
        is_writable: false if scatter must not touch the tensors.
    """

    spec: PageSpec
    tensors: tuple[Tensor, ...]
    dtype: str
    is_writable: bool

    @classmethod
    def of_tensors(cls, tensors: Tensors, axes: str) -> "PageMemory":
        """Describes an engine's cache.

        Args:
            tensors: one tensor, or one per layer, or K and V of every layer as pairs or in a row.
                numpy or torch, all of one shape, dtype and device.
            axes: a letter for each axis, such as `PageAxes.KV_FIRST_NHD`.

        Raises:
            ArgumentError: the tensors differ, share memory, or don't have these axes.
        """
        owners = _flat(tensors)
        strided = [_describe(tensor) for tensor in owners]
        first = strided[0]
        for number, other in enumerate(strided):
            for field in ("shape", "dtype", "strides", "device"):
                found, expected = getattr(other, field), getattr(first, field)
                if found != expected:
                    reason = f"tensor 0 has {expected}; all are alike"
                    raise ArgumentError(f"tensors[{number}].{field}", found, reason)
        _check_different(strided)
        writable = all(tensor.is_writable for tensor in strided)
        return cls(_page_spec(strided, axes), tuple(owners), first.dtype, writable)

    def check_dtype(self, kv_dtype: str) -> None:
        """Raises `ArgumentError` unless the tensors hold ``kv_dtype``, or its raw bits as uints."""
        item_bytes = ITEM_BYTES_BY_DTYPE.get(kv_dtype)
        if self.dtype not in {kv_dtype, f"uint{8 * (item_bytes or 0)}"}:
            raise ArgumentError("dtype", self.dtype, f"the layout's kv_dtype is {kv_dtype}")


def split_kv(keys: Sequence[Tensor], values: Sequence[Tensor]) -> list[Tensor]:
    """Returns separate lists of K and V tensors, one per layer each, in the order of planes.

    Raises:
        ArgumentError: the lists are not equally long.
    """
    if len(keys) != len(values):
        raise ArgumentError("values", len(values), f"there are {len(keys)} tensors of K")
    return [tensor for pair in zip(keys, values, strict=True) for tensor in pair]


class _At:
    """Host memory as numpy's array interface wants it; `np.asarray` keeps this alive, no more."""

    def __init__(self, address: int, num_bytes: int, *, is_writable: bool) -> None:
        self.__array_interface__ = {
            "data": (address, not is_writable),
            "shape": (num_bytes,),
            "typestr": "|u1",
            "version": 3,
        }


def host_bytes(address: int, num_bytes: int, *, is_writable: bool) -> Uint8s:
    """Returns host memory as an array that doesn't own it: keep the owner alive."""
    return np.asarray(_At(address, num_bytes, is_writable=is_writable))


def _flat(tensors: Tensors) -> list[Tensor]:
    if not isinstance(tensors, list | tuple):
        return [tensors]  # type: ignore[list-item]
    flat: list[Tensor] = []
    for item in tensors:
        flat.extend(item) if isinstance(item, list | tuple) else flat.append(item)
    if not flat:
        raise ArgumentError("tensors", tensors, "at least one tensor")
    return flat


def _describe(tensor: Tensor) -> _Strided:
    if isinstance(tensor, np.ndarray):
        found = _Strided(
            tensor.ctypes.data,
            tensor.shape,
            tensor.strides,
            tensor.itemsize,
            tensor.dtype.name,
            "cpu",
            tensor.flags.writeable,
        )
        if tensor.dtype.hasobject:
            raise ArgumentError("tensors", tensor.dtype.name, "a cache has numbers, not objects")
    else:
        found = _describe_torch(tensor)
    if 0 in found.shape:
        raise ArgumentError("tensors", found.shape, "a cache has elements")
    if any(stride < 0 for stride in found.strides):
        raise ArgumentError("tensors", found.strides, "negative strides don't occur in a cache")
    return found


def _describe_torch(tensor: "torch.Tensor") -> _Strided:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(tensor, torch.Tensor):
        raise ArgumentError("tensors", type(tensor).__name__, "tensors of numpy or torch")
    item_bytes = tensor.element_size()
    if tensor.layout is not torch.strided:
        raise ArgumentError("tensors", str(tensor.layout), "a cache is memory with strides")
    return _Strided(
        tensor.data_ptr(),
        tuple(tensor.shape),
        tuple(stride * item_bytes for stride in tensor.stride()),
        item_bytes,
        str(tensor.dtype).removeprefix("torch."),
        str(tensor.device),
        True,  # noqa: FBT003 - the field has a name
    )


def _check_different(tensors: Sequence[_Strided]) -> None:
    first_at: dict[int, int] = {}
    for number, tensor in enumerate(tensors):
        first = first_at.setdefault(tensor.address, number)
        if first != number:
            reason = f"the same memory as tensors[{first}]; layers that share it are one layer"
            raise ArgumentError(f"tensors[{number}]", f"address {tensor.address}", reason)


def _page_spec(tensors: Sequence[_Strided], axes: str) -> PageSpec:
    first = tensors[0]
    letters = _check_axes(first, axes)
    size = dict(zip(letters, first.shape, strict=False))
    stride = dict(zip(letters, first.strides, strict=False))
    if is_opaque := axes.endswith("X"):
        rest = _dense_axes(first, len(letters), axes)
        size["D"], stride["D"] = rest, first.item_bytes
    if stride["D"] != first.item_bytes and size["D"] > 1:
        reason = f"axis D of {axes} has its elements next to each other"
        raise ArgumentError("tensors[0].strides", first.strides, reason)
    row_bytes = size["D"] * first.item_bytes
    spec = PageSpec(
        planes=tuple(
            tensor.address + layer * stride.get("L", 0) + plane * stride.get("K", 0)
            for tensor in tensors
            for layer in range(size.get("L", 1))
            for plane in range(size.get("K", 1))
        ),
        num_blocks=size["B"],
        block_tokens=size.get("P", 1),
        num_heads=size.get("H", 1),
        head_dim=row_bytes if is_opaque else size["D"],
        item_bytes=1 if is_opaque else first.item_bytes,
        stride_block=stride["B"],
        stride_token=stride.get("P", row_bytes),
        stride_head=stride.get("H", row_bytes),
        device=first.device,
    )
    _check_apart(first, size, stride)
    return spec


def _check_apart(tensor: _Strided, size: dict[str, int], stride: dict[str, int]) -> None:
    """Refuses planes that share memory, as those of an expanded tensor do: scatter writes each."""
    span = tensor.item_bytes
    for step, count in sorted((stride[axis], size[axis]) for axis in size if size[axis] > 1):
        if step < span:
            reason = "planes of a cache do not lie over each other"
            raise ArgumentError("tensors[0].strides", tensor.strides, reason)
        span = step * count


def _check_axes(tensor: _Strided, axes: str) -> str:
    """Returns the letters that name one axis each."""
    letters, num_axes = axes.removesuffix("X"), len(tensor.shape)
    is_opaque = letters != axes
    allowed, needed = ("LKBH", "B") if is_opaque else ("LKBPHD", "BPD")
    if len(set(letters)) != len(letters) or not set(needed) <= set(letters) <= set(allowed):
        reason = f"each axis is one of {allowed}, at most once, and {needed} are always there"
        raise ArgumentError("axes", axes, reason)
    if num_axes != len(letters) and not (is_opaque and num_axes > len(letters)):
        raise ArgumentError("tensors[0].shape", tensor.shape, f"axes {axes} do not fit")
    return letters


def _dense_axes(tensor: _Strided, first_axis: int, axes: str) -> int:
    """Returns the number of elements of the axes from ``first_axis`` on, which are one span."""
    num_items = 1
    for size, stride in reversed(list(zip(tensor.shape, tensor.strides, strict=True))[first_axis:]):
        if size > 1 and stride != num_items * tensor.item_bytes:
            reason = f"axes X of {axes} are one span of memory"
            raise ArgumentError("tensors[0].strides", tensor.strides, reason)
        num_items *= size
    return num_items
