"""Where KV bytes lie: pages of an engine's paged cache, and chunks as they are shared.

Both sides are affine: the address of an element is a base plus an index times a stride per axis,
all in bytes. So every engine layout is the same few numbers, and a copy needs no dtype. Opaque
blocks fit in as pages of one "token" whose row is the whole block. Pure values, no memory touched.
"""

from dataclasses import dataclass
from itertools import pairwise

from p2p.errors import ArgumentError
from p2p.layout import ITEM_BYTES_BY_DTYPE, ByteOrder, Layout

_MAX_BYTES = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class PageSpec:
    """An engine's paged cache.

    Attributes:
        planes: address of block 0 of every plane, layer-major (layer 0 K, layer 0 V, layer 1 K, …).
        num_blocks: blocks of the cache.
        block_tokens: tokens of one block.
        num_heads: KV heads kept here.
        head_dim: elements per head and token; neighbours in memory.
        item_bytes: bytes of one element.
        stride_block: bytes from a block to the next one of the same plane.
        stride_token: bytes from a token to the next one of the same block and head.
        stride_head: bytes from a head to the next one of the same token.
        device: where the addresses mean something, as torch writes it.

    Raises:
        ArgumentError: a number cannot be, or strides make rows overlap.
    """

    planes: tuple[int, ...]
    num_blocks: int
    block_tokens: int
    num_heads: int
    head_dim: int
    item_bytes: int
    stride_block: int
    stride_token: int
    stride_head: int
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if not self.planes:
            raise ArgumentError("planes", self.planes, "at least one plane")
        for name in ("num_blocks", "block_tokens", "num_heads", "head_dim", "item_bytes"):
            _check_positive(name, getattr(self, name))
        axes = [("block", self.num_blocks), ("token", self.block_tokens), ("head", self.num_heads)]
        strided = [(getattr(self, f"stride_{name}"), size, name) for name, size in axes if size > 1]
        steps = [(self.row_bytes, 1, "row"), *sorted(strided)]
        for (stride, size, inner), (outer_stride, _, outer) in pairwise(steps):
            if outer_stride < stride * size:
                reason = f"less than the {stride * size} bytes of {size} x stride_{inner}"
                raise ArgumentError(f"stride_{outer}", outer_stride, reason)

    @property
    def row_bytes(self) -> int:
        """Bytes of one head of one token."""
        return self.head_dim * self.item_bytes

    @property
    def block_bytes(self) -> int:
        """Bytes of content of one block of one plane, without padding."""
        return self.block_tokens * self.num_heads * self.row_bytes

    @property
    def plane_span_bytes(self) -> int:
        """Bytes from a plane's address to the end of its last row."""
        last_block = (self.num_blocks - 1) * self.stride_block
        last_token = (self.block_tokens - 1) * self.stride_token
        return last_block + last_token + (self.num_heads - 1) * self.stride_head + self.row_bytes


@dataclass(frozen=True, slots=True)
class ChunkSpec:
    """A chunk as it lies in a pool slot; addresses count from the slot's first byte.

    Attributes:
        num_planes: planes over all layers, layer-major.
        num_heads: KV heads in the chunk.
        chunk_tokens: tokens of the chunk (opaque: blocks).
        head_dim: elements per head and token (opaque: bytes of a block).
        item_bytes: bytes of one element (opaque: 1).
        stride_plane: bytes from a plane to the next.
        stride_head: bytes from a head to the next.
        stride_token: bytes from a token to the next.
    """

    num_planes: int
    num_heads: int
    chunk_tokens: int
    head_dim: int
    item_bytes: int
    stride_plane: int
    stride_head: int
    stride_token: int

    @classmethod
    def canonical(
        cls, num_planes: int, num_heads: int, chunk_tokens: int, head_dim: int, item_bytes: int
    ) -> "ChunkSpec":
        """Returns the order ``[layer][plane][head][token][dim]``, without padding."""
        counts = (num_planes, num_heads, chunk_tokens, head_dim, item_bytes)
        names = ("num_planes", "num_heads", "chunk_tokens", "head_dim", "item_bytes")
        for name, count in zip(names, counts, strict=True):
            _check_positive(name, count)
        row_bytes = head_dim * item_bytes
        head_bytes = chunk_tokens * row_bytes
        return cls(*counts, num_heads * head_bytes, head_bytes, row_bytes)

    @classmethod
    def opaque(cls, num_planes: int, num_blocks: int, block_bytes: int) -> "ChunkSpec":
        """Returns the order ``[layer][plane][block][byte]`` for blocks that move whole."""
        return cls.canonical(num_planes, 1, num_blocks, block_bytes, 1)

    @classmethod
    def for_layout(cls, layout: Layout, page: PageSpec) -> "ChunkSpec":
        """Returns the chunk of one rank of ``layout`` whose cache is ``page``.

        Raises:
            ArgumentError: the cache is not what the layout says; names the field of the layout.
        """
        blocks_per_chunk = layout.chunk_tokens // layout.block_tokens
        if layout.byte_order is ByteOrder.OPAQUE:
            if page.block_tokens != 1 or page.num_heads != 1:
                reason = "the layout is opaque: name what is in a block X"
                raise ArgumentError("axes", f"{page.block_tokens} tokens per block", reason)
            spec = cls.opaque(len(page.planes), blocks_per_chunk, page.block_bytes)
            _check_cache("chunk_bytes", layout.chunk_bytes, spec.chunk_bytes)
            return spec
        _check_cache("num_planes", layout.num_planes * layout.num_layers, len(page.planes))
        _check_cache("num_kv_heads", layout.heads_per_rank, page.num_heads)
        _check_cache("head_dim", layout.head_dim, page.head_dim)
        _check_cache("kv_dtype", ITEM_BYTES_BY_DTYPE[layout.kv_dtype], page.item_bytes)
        _check_cache("block_tokens", layout.block_tokens, page.block_tokens)
        return cls.canonical(
            len(page.planes), page.num_heads, layout.chunk_tokens, page.head_dim, page.item_bytes
        )

    @property
    def row_bytes(self) -> int:
        """Bytes of one head of one token."""
        return self.head_dim * self.item_bytes

    @property
    def chunk_bytes(self) -> int:
        """Bytes of the whole chunk, which is what a slot must hold."""
        return self.num_planes * self.stride_plane


@dataclass(frozen=True, slots=True)
class HeadRange:
    """Which heads to copy.

    Attributes:
        page_head: first head in the paged cache.
        chunk_head: first head in the chunk.
        count: number of heads.
    """

    page_head: int
    chunk_head: int
    count: int


def _check_positive(name: str, value: int) -> None:
    if not 1 <= value <= _MAX_BYTES:
        raise ArgumentError(name, value, "at least 1")


def _check_cache(field: str, of_layout: int, of_cache: int) -> None:
    if of_layout != of_cache:
        reason = f"the layout makes that {of_layout} per rank, the paged cache has {of_cache}"
        raise ArgumentError(field, of_cache, reason)
