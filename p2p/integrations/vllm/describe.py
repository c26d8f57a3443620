"""Reads out of vLLM's objects what sharing goes by. No decisions beyond what can be shared."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
import vllm
from vllm.config import VllmConfig
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_utils import resolve_none_hash_seed
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, MLAAttentionSpec

from p2p.errors import ConfigError
from p2p.integrations.vllm.identity import EngineIdentity
from p2p.integrations.vllm.orders import RankShape
from p2p.integrations.vllm.settings import ConnectorConfig
from p2p.keys import weights_digest


def refusal(config: VllmConfig, caches: KVCacheConfig) -> str:
    """Returns why this engine's KV cannot be shared correctly, by name; empty if it can."""
    parallel = config.parallel_config
    for name in (
        "pipeline_parallel_size",
        "decode_context_parallel_size",
        "prefill_context_parallel_size",
    ):
        if getattr(parallel, name) != 1:
            return f"{name} = {getattr(parallel, name)}"
    if config.speculative_config is not None:
        return "speculative_config"
    return _refuse_groups(caches)


def _refuse_groups(caches: KVCacheConfig) -> str:
    if len(caches.kv_cache_groups) != 1:
        return f"kv_cache_groups = {len(caches.kv_cache_groups)}"
    spec = caches.kv_cache_groups[0].kv_cache_spec
    if not isinstance(spec, FullAttentionSpec) or type(spec).__name__ not in {
        "FullAttentionSpec",
        "MLAAttentionSpec",
    }:
        return f"kv_cache_spec = {type(spec).__name__}"
    if caches.hash_block_size not in {None, spec.block_size}:
        return f"hash_block_size = {caches.hash_block_size}"
    return ""


def identify(
    config: VllmConfig, caches: KVCacheConfig, settings: ConnectorConfig
) -> EngineIdentity:
    """Returns what an engine is.

    Raises:
        ConfigError: nothing tells which weights it has.
    """
    spec = caches.kv_cache_groups[0].kv_cache_spec
    if not isinstance(spec, FullAttentionSpec):
        raise TypeError(f"refused before: {type(spec).__name__}")
    model, cache = config.model_config, config.cache_config
    algorithm = cache.prefix_caching_hash_algo
    is_latent = isinstance(spec, MLAAttentionSpec)
    return EngineIdentity(
        model=settings.model or Path(model.model).name,
        weights=_weights(config, settings),
        dtype=str(model.dtype).removeprefix("torch."),
        quantization=str(model.quantization or ""),
        kv_dtype=str(spec.dtype).removeprefix("torch."),
        cache_dtype=str(cache.cache_dtype),
        hash_algorithm=algorithm,
        hash_seed=resolve_none_hash_seed(get_hash_fn_by_name(algorithm)),
        num_kv_heads=1 if is_latent else model.get_total_num_kv_heads(),
        num_planes=1 if is_latent else 2,
        head_dim=spec.head_size,
        num_layers=len(caches.kv_cache_groups[0].layer_names),
        block_tokens=spec.block_size,
        tensor_parallel=config.parallel_config.tensor_parallel_size,
        engine_version=vllm.__version__,
    )


def ordered_tensors(caches: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """Returns one tensor per layer, in the order of the layers, those of shared caches once."""
    by_address = {
        caches[name].data_ptr(): caches[name] for name in sorted(caches, key=_layer_order)
    }
    return list(by_address.values())


def shape_of(
    rank: int, tensors: list[torch.Tensor], config: VllmConfig, caches: KVCacheConfig
) -> RankShape:
    """Returns what a worker was given as KV cache."""
    spec = caches.kv_cache_groups[0].kv_cache_spec
    first = tensors[0]
    device = first.device.type
    layout = caches.kv_cache_layout or "unknown"
    return RankShape(
        rank=rank,
        shard_bytes=sum(each[0].numel() * each.element_size() for each in tensors),
        num_heads=num_heads_of(tensors[0], caches),
        num_layers=len(tensors),
        byte_order=f"{layout}/{device}/{_backend(config, caches)}",
        isa=_isa(spec, config) if device == "cpu" else "",
        refusal=_refuse_tensors(tensors, caches.num_blocks),
    )


def _refuse_tensors(tensors: list[torch.Tensor], num_blocks: int) -> str:
    for tensor in tensors:
        if tensor.shape != tensors[0].shape or tensor.dtype != tensors[0].dtype:
            return f"kv_caches: {tuple(tensor.shape)} beside {tuple(tensors[0].shape)}"
        if tensor.shape[0] != num_blocks:
            return f"kv_caches: {tuple(tensor.shape)} does not begin with {num_blocks} blocks"
        if not tensor[0].is_contiguous():
            return f"kv_cache_layout: a block has strides {tensor[0].stride()}"
    return ""


def num_heads_of(tensor: torch.Tensor, caches: KVCacheConfig) -> int:
    """Returns the KV heads of a layer if each is one span of every block; else 0.

    vLLM's axes are block, head, token, content. What a kernel packs is inside a head's tokens and
    content; a cache whose second axis is something else (K and V apart, say) moves whole.
    """
    spec = caches.kv_cache_groups[0].kv_cache_spec
    if not isinstance(spec, FullAttentionSpec) or tensor.ndim != 4:
        return 0
    is_by_head = tuple(tensor.shape[1:3]) == (spec.num_kv_heads, spec.block_size)
    return spec.num_kv_heads if is_by_head and tensor[0, 0].is_contiguous() else 0


def _isa(spec: object, config: VllmConfig) -> str:
    """Returns the instruction set that packs the CPU backend's blocks."""
    from vllm.v1.attention.backends.cpu_attn import _get_attn_isa  # noqa: PLC0415  CPU builds only

    if not isinstance(spec, FullAttentionSpec):
        return ""
    cache_dtype = str(config.cache_config.cache_dtype)
    return str(
        _get_attn_isa(config.model_config.dtype, spec.block_size, spec.head_size, cache_dtype)
    )


def _backend(config: VllmConfig, caches: KVCacheConfig) -> str:
    """Returns the name of the attention backend, whose kernels say how a block is filled."""
    layers = config.compilation_config.static_forward_context
    layer = layers[caches.kv_cache_groups[0].layer_names[0]]
    return str(layer.get_attn_backend().get_name())


def _weights(config: VllmConfig, settings: ConnectorConfig) -> str:
    model = config.model_config
    commit = getattr(model.hf_config, "_commit_hash", None)
    if settings.weights:
        found = settings.weights
    elif Path(model.model).exists():
        found = weights_digest(model.model)
    elif commit:
        found = f"hub-{commit}"
    else:
        key = f"{ConnectorConfig.SECTION}.weights"
        reason = f"{model.model} is no folder and has no commit: name the weights"
        raise ConfigError(key, settings.weights, reason)
    overrides = model.hf_overrides
    if isinstance(overrides, dict) and overrides:
        text = json.dumps(overrides, sort_keys=True, default=str)
        found += "+" + hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return found


def _layer_order(name: str) -> list[tuple[int, str]]:
    """Sorts layer 10 behind layer 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
