"""Cache to chunks and back, bit by bit."""

import numpy as np
import pytest
import torch

from examples.p2p_sharing.kv import chunks_from_layers, layers_from_chunks
from p2p.layout import Layout

LAYOUT = Layout(
    num_layers=3, num_kv_heads=2, head_dim=4, kv_dtype="float32", block_tokens=8, chunk_tokens=8
)
NUM_TOKENS = 29  # three chunks and a rest


@pytest.fixture
def layers():
    torch.manual_seed(1)
    shape = (1, LAYOUT.num_kv_heads, NUM_TOKENS, LAYOUT.head_dim)
    return [(torch.randn(shape), torch.randn(shape)) for _ in range(LAYOUT.num_layers)]


def test_a_chunk_is_canonical(layers):
    chunks = chunks_from_layers(layers, range(1, 3), LAYOUT)
    assert chunks.shape == (2, LAYOUT.chunk_bytes)
    assert chunks.dtype == np.uint8
    kv_LSHPD = chunks[1].view(np.float32).reshape(3, 2, 2, 8, 4)
    for layer, planes in enumerate(layers):
        for plane, kv_1HTD in enumerate(planes):
            assert np.array_equal(kv_LSHPD[layer, plane], kv_1HTD[0, :, 16:24].numpy())


def test_chunks_give_the_cache_back(layers):
    chunks = chunks_from_layers(layers, range(3), LAYOUT)
    chunks.flags.writeable = False  # as the backend's views are
    restored = layers_from_chunks(list(chunks), LAYOUT)
    for (keys, values), (old_keys, old_values) in zip(restored, layers, strict=True):
        assert torch.equal(keys, old_keys[:, :, :24])
        assert torch.equal(values, old_values[:, :, :24])


def test_the_restored_cache_does_not_depend_on_the_chunks(layers):
    chunks = chunks_from_layers(layers, range(1), LAYOUT)
    restored = layers_from_chunks(list(chunks), LAYOUT)
    chunks[:] = 0
    assert torch.equal(restored[0][0], layers[0][0][:, :, :8])
