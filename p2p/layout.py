"""Layouts: how an instance keeps KV, and whether two instances can read each other's.

The canonical chunk is ``[layer][plane][head][token][dim]`` (a plane is K or V; MLA has one), so
that a range of heads is one contiguous span per layer and plane. Opaque chunks are an engine's
own packed blocks and move whole. Pure values. No I/O.
"""

from enum import Enum
from typing import Annotated

import msgspec

from p2p.errors import ArgumentError

_MOST = 1 << 24
Count = Annotated[int, msgspec.Meta(ge=1, le=_MOST)]

ITEM_BYTES_BY_DTYPE = {
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "uint8": 1,
    "int8": 1,
}


class ByteOrder(Enum):
    """How the bytes of a chunk are arranged."""

    CANONICAL = "canonical"
    OPAQUE = "opaque"


class Layout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one instance keeps the KV of a chunk, over all its ranks.

    Attributes:
        num_layers: layers with a KV cache.
        num_kv_heads: KV heads of the whole model, over all ranks.
        head_dim: elements per head and token.
        kv_dtype: element type, a key of `ITEM_BYTES_BY_DTYPE`.
        block_tokens: tokens of one block of the engine's paged cache.
        chunk_tokens: tokens of one chunk, a multiple of ``block_tokens``.
        num_planes: 2 for K and V, 1 for MLA's latent cache (replicated on every rank).
        tensor_parallel: ranks that split the heads; 1 where a slot has the heads of all ranks.
        pipeline_parallel: ranks that split the layers.
        byte_order: canonical, or the engine's own.
        isa: for opaque chunks the instruction set that packs them.
        engine_kv_version: for opaque chunks the engine's KV format.
    """

    num_layers: Count
    num_kv_heads: Count
    head_dim: Count
    kv_dtype: str
    block_tokens: Count
    chunk_tokens: Count
    num_planes: Annotated[int, msgspec.Meta(ge=1, le=2)] = 2
    tensor_parallel: Count = 1
    pipeline_parallel: Count = 1
    byte_order: ByteOrder = ByteOrder.CANONICAL
    isa: str = ""
    engine_kv_version: str = ""

    def check(self) -> None:
        """Raises `ArgumentError` with the field and value that cannot be."""
        for name in _COUNTS:
            _check_count(name, getattr(self, name), _MOST)
        _check_count("num_planes", self.num_planes, 2)
        if self.kv_dtype not in ITEM_BYTES_BY_DTYPE:
            known = ", ".join(ITEM_BYTES_BY_DTYPE)
            raise ArgumentError("kv_dtype", self.kv_dtype, f"one of {known}")
        if self.chunk_tokens % self.block_tokens:
            reason = f"no multiple of block_tokens = {self.block_tokens}"
            raise ArgumentError("chunk_tokens", self.chunk_tokens, reason)
        heads, ranks = self.num_kv_heads, self.tensor_parallel
        if not self.is_replicated and heads % ranks and ranks % heads:
            reason = f"neither divides nor is a multiple of num_kv_heads = {heads}"
            raise ArgumentError("tensor_parallel", ranks, reason)

    @property
    def is_replicated(self) -> bool:
        """True if every rank keeps all heads (MLA)."""
        return self.num_planes == 1

    @property
    def heads_per_rank(self) -> int:
        """KV heads that one rank keeps; with more ranks than heads each keeps a copy of one."""
        if self.is_replicated:
            return self.num_kv_heads
        return max(1, self.num_kv_heads // self.tensor_parallel)

    @property
    def leaf_bytes(self) -> int:
        """Bytes of the smallest unit that a reader may slice."""
        per_head = self.chunk_tokens * self.head_dim * ITEM_BYTES_BY_DTYPE[self.kv_dtype]
        if self.byte_order is ByteOrder.OPAQUE:
            return per_head * self.heads_per_rank * self.num_planes
        return per_head

    @property
    def num_leaves(self) -> int:
        """Leaves of one rank's shard of a chunk."""
        if self.byte_order is ByteOrder.OPAQUE:
            return self.num_layers
        return self.num_layers * self.num_planes * self.heads_per_rank

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one rank's shard of a chunk."""
        return self.leaf_bytes * self.num_leaves


_COUNTS = (
    *("num_layers", "num_kv_heads", "head_dim", "block_tokens", "chunk_tokens"),
    *("tensor_parallel", "pipeline_parallel"),
)


def _check_count(name: str, value: object, most: int) -> None:
    """Refuses what decoding would refuse: a struct that is built in a program is not decoded."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ArgumentError(name, value, f"a whole number from 1 to {most}")


class Equal(msgspec.Struct, frozen=True):
    """Chunks move as they are."""


class Sliceable(msgspec.Struct, frozen=True):
    """Tensor-parallel sizes differ: a rank reads its heads out of its counterparts' chunks."""


class Refused(msgspec.Struct, frozen=True):
    """These two cannot share.

    Attributes:
        field: the first field that differs.
        ours: our value of it.
        theirs: the peer's.
    """

    field: str
    ours: str
    theirs: str


_ALWAYS_EQUAL = (
    "byte_order",
    "kv_dtype",
    "num_layers",
    "num_planes",
    "num_kv_heads",
    "head_dim",
    "chunk_tokens",
    "pipeline_parallel",
)
_EQUAL_IF_OPAQUE = ("block_tokens", "tensor_parallel", "isa", "engine_kv_version")


def compare(ours: Layout, theirs: Layout) -> Equal | Sliceable | Refused:
    """Returns whether an instance with layout ``ours`` can read chunks of ``theirs``."""
    opaque = ours.byte_order is ByteOrder.OPAQUE
    for field in _ALWAYS_EQUAL + (_EQUAL_IF_OPAQUE if opaque else ()):
        our_value, their_value = getattr(ours, field), getattr(theirs, field)
        if our_value != their_value:
            return Refused(field, _text(our_value), _text(their_value))
    if ours.tensor_parallel == theirs.tensor_parallel or ours.is_replicated:
        return Equal()
    return Sliceable()


def counterparts(ours: Layout, theirs: Layout, rank: int) -> tuple[int, ...]:
    """Returns the ranks of ``theirs`` that rank ``rank`` of ``ours`` reads from, in order of heads.

    Ranks are numbered stage by stage: ``pipeline stage * tensor_parallel + tensor rank``. Where
    several ranks keep the same heads (MLA, or more ranks than heads), readers spread over them.

    Raises:
        ArgumentError: there is no such rank, a layout cannot be, or the two refuse each other.
    """
    ours.check()
    theirs.check()
    world_size = ours.tensor_parallel * ours.pipeline_parallel
    if not 0 <= rank < world_size:
        raise ArgumentError("rank", rank, f"there are {world_size} ranks")
    verdict = compare(ours, theirs)
    if isinstance(verdict, Refused):
        raise ArgumentError(verdict.field, verdict.theirs, f"ours is {verdict.ours}")
    stage, place = divmod(rank, ours.tensor_parallel)
    first = stage * theirs.tensor_parallel
    if ours.tensor_parallel == theirs.tensor_parallel:
        return (rank,)
    if ours.is_replicated:
        return (first + place % theirs.tensor_parallel,)
    found = dict.fromkeys(first + _keeper_of(theirs, head, place) for head in _heads(ours, place))
    return tuple(found)


def _heads(layout: Layout, place: int) -> range:
    """Returns the heads that a tensor rank keeps."""
    start = place * layout.num_kv_heads // layout.tensor_parallel
    return range(start, start + layout.heads_per_rank)


def _keeper_of(layout: Layout, head: int, reader: int) -> int:
    """Returns a tensor rank that keeps a head, another one for another reader if there are more."""
    if layout.tensor_parallel <= layout.num_kv_heads:
        return head // layout.heads_per_rank
    num_copies = layout.tensor_parallel // layout.num_kv_heads
    return head * num_copies + reader % num_copies


def _text(value: object) -> str:
    return str(value.value) if isinstance(value, Enum) else str(value)
