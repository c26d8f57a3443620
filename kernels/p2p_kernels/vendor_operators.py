"""The vendors' operators for paged caches, with one calling convention, through torch's dispatcher.

Names, arguments and shapes are those of torch_npu 2.14's schemas and of torch_mlu_ops' wrappers.
No vendor's package is imported: whoever has tensors on such a device has loaded it. Untested on
hardware.

Shapes: B blocks, P tokens per block, H heads, D head dim, T tokens, N blocks of a chunk.
"""

from typing import NamedTuple, Protocol

import torch

from p2p.errors import PluginMissingError


class Pair(NamedTuple):
    """Two planes that an operator takes at once, such as K and V of a layer."""

    key: torch.Tensor
    value: torch.Tensor


class TokenPlaces(NamedTuple):
    """Where a chunk's tokens are, in the two forms that operators take; all int32 on the device.

    Attributes:
        block_table: (1, N) the blocks.
        num_tokens: (1,) T.
        slots: (T,) block times P plus place in the block.
    """

    block_table: torch.Tensor
    num_tokens: torch.Tensor
    slots: torch.Tensor


class VendorOperators(Protocol):
    """Gather and scatter of the tokens of two planes."""

    @property
    def axes(self) -> str:
        """The order of a plane's axes that they are for: BPHD or BHPD."""
        ...

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """Element types that they take."""
        ...

    def gather(self, caches: Pair, places: TokenPlaces, tokens: Pair) -> None:
        """Copies all tokens of the blocks into (T, H, D), contiguous."""
        ...

    def scatter(self, tokens: Pair, places: TokenPlaces, caches: Pair) -> None:
        """Copies (T, H, D), contiguous, into the blocks' tokens that ``slots`` names."""
        ...


class NpuOperators:
    """Ascend: ``npu_gather_pa_kv_cache`` and ``npu_scatter_pa_kv_cache``, by torch_npu.

    Raises:
        PluginMissingError: torch_npu isn't loaded, or is too old to have them.
    """

    axes = "BPHD"
    dtypes = (torch.float16, torch.bfloat16, torch.int8)

    def __init__(self) -> None:
        try:
            self._gather = torch.ops.npu.npu_gather_pa_kv_cache
            self._scatter = torch.ops.npu.npu_scatter_pa_kv_cache
        except AttributeError as error:
            raise PluginMissingError(f"torch_npu has no operator for it: {error}") from error

    def gather(self, caches: Pair, places: TokenPlaces, tokens: Pair) -> None:
        """See `VendorOperators.gather`."""
        self._gather(
            caches.key,
            caches.value,
            places.block_table,
            places.num_tokens,
            tokens.key,
            tokens.value,
            seq_offset=None,
            is_seq_lens_cumsum=False,
        )

    def scatter(self, tokens: Pair, places: TokenPlaces, caches: Pair) -> None:
        """See `VendorOperators.scatter`. The operator's default is another format, PA_NZ."""
        self._scatter(
            tokens.key,
            tokens.value,
            caches.key,
            caches.value,
            places.slots,
            cache_mode="Norm",
        )


class MluOperators:
    """Cambricon: ``reshape_paged_cache``, by torch_mlu_ops; its last argument is the direction.

    Raises:
        PluginMissingError: torch_mlu_ops isn't loaded.
    """

    axes = "BHPD"
    dtypes = (torch.float32, torch.float16, torch.bfloat16, torch.int8)

    def __init__(self) -> None:
        try:
            self._reshape = torch.ops.torch_mlu_ops.reshape_paged_cache
        except AttributeError as error:
            raise PluginMissingError(f"torch_mlu_ops has no operator for it: {error}") from error

    def gather(self, caches: Pair, places: TokenPlaces, tokens: Pair) -> None:
        """See `VendorOperators.gather`."""
        self._reshape(tokens.key, tokens.value, caches.key, caches.value, places.slots, True)  # noqa: FBT003 - the operator takes it so

    def scatter(self, tokens: Pair, places: TokenPlaces, caches: Pair) -> None:
        """See `VendorOperators.scatter`."""
        self._reshape(tokens.key, tokens.value, caches.key, caches.value, places.slots, False)  # noqa: FBT003 - the operator takes it so
