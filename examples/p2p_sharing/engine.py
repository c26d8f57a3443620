"""A tiny engine: prefill on top of reused KV, then greedy decoding.

A prompt without reuse is prefilled whole, in one forward pass, as an engine would do it; with
reuse only the tokens behind the reused ones are computed. Both give the same KV up to float32
rounding (about 3e-5 in the logits of SmolLM2-135M), because matrix kernels sum in an order that
depends on the number of rows. `Answer.smallest_margin` says how far that is from mattering.
One thread, one prompt at a time.
"""

from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

import torch
from torch import nn
from transformers import DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer

from examples.p2p_sharing.kv import ChunkBytes, LayerKV, chunks_from_layers, layers_from_chunks
from p2p.layout import Layout

CHUNK_TOKENS = 64
_WARM_TOKENS = 2 * CHUNK_TOKENS


class Prefill(NamedTuple):
    """A prompt's KV cache, and the logits that its first new token is taken from.

    Attributes:
        cache: decoding appends to it.
        logits: float32 ``[vocabulary]``.
    """

    cache: DynamicCache
    logits: torch.Tensor


class Answer(NamedTuple):
    """Tokens chosen greedily.

    Attributes:
        tokens: as many as were asked for; an end token does not stop the engine.
        smallest_margin: the smallest distance between the two best logits on the way.
    """

    tokens: list[int]
    smallest_margin: float


class Engine:
    """Runs one float32 model on the CPU."""

    def __init__(self, model: nn.Module, chunk_tokens: int = CHUNK_TOKENS) -> None:
        self._model = model
        self.layout = layout_of(model, chunk_tokens)

    def warm_up(self) -> None:
        """Runs every kernel once, so that no measured run pays for the first call."""
        tokens = [1] * _WARM_TOKENS
        prefill = self.prefill(tokens, [])
        chunks = self.chunks(prefill, range(1))
        self.decode(self.prefill(tokens, list(chunks)), 2)

    @torch.inference_mode()
    def prefill(self, tokens: Sequence[int], reused: Sequence[ChunkBytes]) -> Prefill:
        """Computes a prompt's KV cache behind the chunks that are reused.

        Args:
            tokens: the whole prompt; at least one token lies behind the reused chunks.
            reused: the prompt's first chunks; copied before this returns.
        """
        cache = _new_cache(layers_from_chunks(reused, self.layout) if reused else [])
        num_reused_tokens = len(reused) * self.layout.chunk_tokens
        return Prefill(cache, self._forward(tokens[num_reused_tokens:], cache))

    @torch.inference_mode()
    def decode(self, prefill: Prefill, num_tokens: int) -> Answer:
        """Returns the next tokens, always taking the likeliest; appends to the cache."""
        logits, tokens, margins = prefill.logits, list[int](), list[float]()
        while True:
            best = logits.topk(2)
            tokens.append(int(best.indices[0]))
            margins.append(float(best.values[0] - best.values[1]))
            if len(tokens) == num_tokens:
                return Answer(tokens, min(margins))
            logits = self._forward(tokens[-1:], prefill.cache)

    def chunks(self, prefill: Prefill, chunks: range) -> ChunkBytes:
        """Returns chunks of a prompt's KV, ready to be shared: uint8 ``[chunk, chunk_bytes]``."""
        layers = [_layer_kv(layer) for layer in prefill.cache.layers]
        return chunks_from_layers(layers, chunks, self.layout)

    def _forward(self, tokens: Sequence[int], cache: DynamicCache) -> torch.Tensor:
        output = self._model(
            input_ids=torch.tensor([list(tokens)]),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[0, -1]
        return logits


class Stopwatch:
    """Measures seconds from when it was made."""

    def __init__(self) -> None:
        self._start_s = perf_counter()

    def seconds(self) -> float:
        """Returns the seconds that have passed."""
        return perf_counter() - self._start_s


def layout_of(model: nn.Module, chunk_tokens: int) -> Layout:
    """Returns how a Llama-like model's KV is kept: float32, canonical, one rank."""
    config = model.config
    if not isinstance(config, PretrainedConfig):
        raise TypeError("layout_of takes a transformers model")
    return Layout(
        num_layers=config.num_hidden_layers,
        num_kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        kv_dtype="float32",
        block_tokens=chunk_tokens,
        chunk_tokens=chunk_tokens,
    )


def _layer_kv(layer: object) -> LayerKV:
    if not isinstance(layer, DynamicLayer) or layer.keys is None or layer.values is None:
        raise TypeError(f"{type(layer).__name__} keeps no plain keys and values")
    return layer.keys, layer.values


def _new_cache(layers: Sequence[LayerKV]) -> DynamicCache:
    cache = DynamicCache()
    for index, (keys, values) in enumerate(layers):
        cache.update(keys, values, index)
    return cache
