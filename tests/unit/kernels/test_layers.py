"""A paged cache layer by layer: the same planes, whoever owns them."""

import numpy as np
import pytest

from p2p.errors import ArgumentError
from p2p.kernels import ChunkSpec, PageMemory, split_layers

CHUNK = ChunkSpec.canonical(6, 2, 8, 4, 2)


def memory_of(axes: str, shapes: list[tuple[int, ...]]) -> PageMemory:
    return PageMemory.of_tensors([np.zeros(shape, np.uint16) for shape in shapes], axes)


@pytest.mark.parametrize(
    ("axes", "shapes", "owners"),
    [
        ("KBPHD", [(2, 5, 4, 2, 4)] * 3, [(0,), (1,), (2,)]),
        ("BPHD", [(5, 4, 2, 4)] * 6, [(0, 1), (2, 3), (4, 5)]),
        ("BLKPHD", [(5, 3, 2, 4, 2, 4)], [(0,), (0,), (0,)]),
    ],
)
def test_layers_are_the_planes_in_order(axes, shapes, owners):
    memory = memory_of(axes, shapes)
    parts = split_layers(memory, CHUNK, 3)
    assert tuple(p for part, _ in parts for p in part.spec.planes) == memory.spec.planes
    for (part, chunk), numbers in zip(parts, owners, strict=True):
        assert [id(tensor) for tensor in part.tensors] == [id(memory.tensors[n]) for n in numbers]
        assert chunk.chunk_bytes * 3 == CHUNK.chunk_bytes
        assert chunk.num_planes == 2


@pytest.mark.parametrize("num_layers", [0, 4, 7])
def test_planes_are_a_whole_number_per_layer(num_layers):
    with pytest.raises(ArgumentError, match=f"num_layers = {num_layers}: the cache has 6 planes"):
        split_layers(memory_of("KBPHD", [(2, 5, 4, 2, 4)] * 3), CHUNK, num_layers)
