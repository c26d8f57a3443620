"""What an engine is, as far as sharing goes, and the namespace and layout that follow. Pure."""

from dataclasses import dataclass

from p2p.integrations.vllm.orders import RankShape
from p2p.keys import Namespace
from p2p.layout import ByteOrder, Layout

_KV_DTYPES = {
    "fp8": "float8_e4m3fn",
    "fp8_e4m3": "float8_e4m3fn",
    "fp8_e5m2": "float8_e5m2",
}


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """One vLLM instance.

    Attributes:
        model: its name in the fleet.
        weights: digest of the weights, or a hub commit.
        dtype: that the model computes in.
        quantization: of the weights; empty if none.
        kv_dtype: element type of the KV cache, as torch names it.
        cache_dtype: as vLLM's ``--kv-cache-dtype`` names it.
        hash_algorithm: of vLLM's block hashes.
        hash_seed: of their chain.
        num_kv_heads: of the whole model; 1 for a latent cache.
        num_planes: 2 for K and V, 1 for a latent cache.
        head_dim: elements per head, token and plane.
        num_layers: with a KV cache.
        block_tokens: of vLLM's blocks.
        tensor_parallel: workers.
        engine_version: of vLLM.
    """

    model: str
    weights: str
    dtype: str
    quantization: str
    kv_dtype: str
    cache_dtype: str
    hash_algorithm: str
    hash_seed: str
    num_kv_heads: int
    num_planes: int
    head_dim: int
    num_layers: int
    block_tokens: int
    tensor_parallel: int
    engine_version: str

    @property
    def element_type(self) -> str:
        """Element type of the KV cache, where vLLM's tensors only say that it is bytes."""
        return _KV_DTYPES.get(self.cache_dtype, self.kv_dtype)

    def namespace(self) -> Namespace:
        """Returns what makes block hashes comparable: all that they do not contain."""
        computed = "/".join(filter(None, (self.weights, self.dtype, self.quantization)))
        return Namespace(
            model=self.model,
            weights_digest=computed,
            kv_dtype=self.element_type,
            key_scheme=f"vllm-{self.hash_algorithm}",
            key_seed=self.hash_seed,
        )

    def layout(self, chunk_tokens: int, shape: RankShape) -> Layout:
        """Returns how this instance keeps KV: vLLM's blocks as they are, head by head.

        All ranks fill one slot. Where each head is one span of a block, the slot has the heads of
        all ranks in order, so it doesn't tell by how many ranks it was filled, and instances of
        any tensor-parallel size read each other. Elsewhere blocks move whole, rank by rank.
        """
        unit = "heads" if shape.num_heads else "blocks"
        return Layout(
            num_layers=self.num_layers,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            kv_dtype=self.element_type,
            block_tokens=self.block_tokens,
            chunk_tokens=chunk_tokens,
            num_planes=self.num_planes,
            tensor_parallel=1 if shape.num_heads else self.tensor_parallel,
            byte_order=ByteOrder.OPAQUE,
            isa=shape.isa,
            engine_kv_version=f"vllm-{self.engine_version}/{shape.byte_order}/{unit}",
        )


def refuse_shapes(layout: Layout, shapes: list[RankShape], num_ranks: int) -> str:
    """Returns why caches cannot be shared as a layout says; empty if they can.

    Args:
        layout: of rank 0.
        shapes: of all ranks, in order.
        num_ranks: that there should be.
    """
    if [shape.rank for shape in shapes] != list(range(num_ranks)):
        return f"ranks: {[shape.rank for shape in shapes]} of {num_ranks}"
    for shape in shapes:
        if shape.refusal:
            return shape.refusal
        for name in ("byte_order", "isa", "shard_bytes", "num_heads", "num_layers"):
            ours, theirs = getattr(shapes[0], name), getattr(shape, name)
            if ours != theirs:
                return f"{name}: {theirs} on rank {shape.rank}, {ours} on rank 0"
    blocks_per_chunk = layout.chunk_tokens // layout.block_tokens
    num_shards = layout.num_kv_heads // shapes[0].num_heads if shapes[0].num_heads else 1
    found = shapes[0].shard_bytes * blocks_per_chunk * num_shards
    if found != layout.chunk_bytes:
        return f"block_bytes: chunks of {found} bytes, by heads and dtype {layout.chunk_bytes}"
    return ""
