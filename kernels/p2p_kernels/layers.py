"""A paged cache layer by layer, for engines that use a layer while the next ones are copied."""

from dataclasses import replace

from p2p.errors import ArgumentError
from p2p_kernels.memory import PageMemory
from p2p_kernels.specs import ChunkSpec


def split_layers(
    memory: PageMemory, chunk: ChunkSpec, num_layers: int
) -> list[tuple[PageMemory, ChunkSpec]]:
    """Returns each layer's pages and what a chunk holds of it, in order.

    The part of layer l is the l-th of ``num_layers`` equal spans of a chunk.

    Raises:
        ArgumentError: the planes are no whole number per layer.
    """
    num_planes = len(memory.spec.planes)
    if num_layers < 1 or num_planes % num_layers or chunk.num_planes != num_planes:
        reason = f"the cache has {num_planes} planes, the chunk {chunk.num_planes}"
        raise ArgumentError("num_layers", num_layers, reason)
    per_layer, per_tensor = num_planes // num_layers, num_planes // len(memory.tensors)
    parts = []
    for first in range(0, num_planes, per_layer):
        last = first + per_layer - 1
        part = replace(
            memory,
            spec=replace(memory.spec, planes=memory.spec.planes[first : last + 1]),
            tensors=memory.tensors[first // per_tensor : last // per_tensor + 1],
        )
        parts.append((part, replace(chunk, num_planes=per_layer)))
    return parts
