"""Turns an engine's KV cache into canonical chunks and back.

The engine keeps, per layer, K and V of shape ``[1, H, T, D]``; a chunk is
``[layer][plane][head][token][dim]`` (see `p2p.layout`). Shapes below: ``C`` chunks, ``L`` layers,
``S`` planes (K, V), ``H`` KV heads, ``P`` tokens per chunk, ``T`` tokens, ``D`` head dim.
No loop over tokens, one copy in each direction. No I/O.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from p2p.layout import Layout

ChunkBytes = npt.NDArray[np.uint8]
LayerKV = tuple[torch.Tensor, torch.Tensor]


def chunks_from_layers(layers: Sequence[LayerKV], chunks: range, layout: Layout) -> ChunkBytes:
    """Returns chunks of a cache, as bytes.

    Args:
        layers: K and V per layer, each float32 ``[1, H, T, D]``.
        chunks: which chunks, counted from the start of the prompt; all their tokens are there.
        layout: float32, canonical, one rank.

    Returns:
        A new uint8 array ``[len(chunks), chunk_bytes]``.
    """
    num_tokens = len(chunks) * layout.chunk_tokens
    start = chunks.start * layout.chunk_tokens
    split_HCPD = (layout.num_kv_heads, len(chunks), layout.chunk_tokens, layout.head_dim)
    kv_CLSHPD = np.empty((len(chunks), *_chunk_shape(layout)), np.float32)
    for layer, planes in enumerate(layers):
        for plane, kv_1HTD in enumerate(planes):
            kv_HTD = kv_1HTD[0, :, start : start + num_tokens].numpy()
            kv_CLSHPD[:, layer, plane] = kv_HTD.reshape(split_HCPD).transpose(1, 0, 2, 3)
    return kv_CLSHPD.view(np.uint8).reshape(len(chunks), layout.chunk_bytes)


def layers_from_chunks(chunks: Sequence[ChunkBytes], layout: Layout) -> list[LayerKV]:
    """Returns K and V per layer of consecutive chunks, as one copy that the caller owns.

    Args:
        chunks: uint8, ``chunk_bytes`` each, in the prompt's order; at least one.
        layout: float32, canonical, one rank.

    Returns:
        For each layer two float32 tensors ``[1, H, T, D]``.
    """
    num_layers, num_planes, num_heads, chunk_tokens, head_dim = _chunk_shape(layout)
    shape_LSHTD = (num_layers, num_planes, num_heads, chunk_tokens * len(chunks), head_dim)
    kv_LSHTD = np.empty(shape_LSHTD, np.float32)
    for index, chunk in enumerate(chunks):
        tokens = slice(index * chunk_tokens, (index + 1) * chunk_tokens)
        kv_LSHTD[:, :, :, tokens] = chunk.view(np.float32).reshape(_chunk_shape(layout))
    kv_LS1HTD = torch.from_numpy(kv_LSHTD).unsqueeze(2)
    return [(layer[0], layer[1]) for layer in kv_LS1HTD]


def _chunk_shape(layout: Layout) -> tuple[int, int, int, int, int]:
    return (
        layout.num_layers,
        layout.num_planes,
        layout.num_kv_heads,
        layout.chunk_tokens,
        layout.head_dim,
    )
