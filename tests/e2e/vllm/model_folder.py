"""A small random Llama in float32, for engines whose answers need only be repeatable."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

VOCABULARY = 1024
MAX_TOKENS = 8448
_SEED = 20_250_101


def make_model(folder: Path) -> Path:
    """Writes the model: 4 layers, 4 heads, 2 KV heads; 4 MB."""
    torch.manual_seed(_SEED)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_TOKENS,
        initializer_range=0.1,  # wide, so that the best two tokens are well apart
        bos_token_id=None,
        eos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def make_sliding_model(folder: Path) -> Path:
    """Writes a model whose layers look at the last 256 tokens only."""
    torch.manual_seed(_SEED)
    config = MistralConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=MAX_TOKENS,
        sliding_window=256,
        bos_token_id=None,
        eos_token_id=None,
    )
    MistralForCausalLM(config).save_pretrained(folder)
    return folder


def make_hybrid_model(folder: Path) -> Path:
    """Writes a model with layers that look at the last 256 tokens, and layers that see all."""
    torch.manual_seed(_SEED)
    config = Gemma3TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=MAX_TOKENS,
        sliding_window=256,
        layer_types=["sliding_attention", "sliding_attention", "full_attention", "full_attention"],
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    Gemma3ForCausalLM(config).save_pretrained(folder)
    return folder


def make_adapter(folder: Path, seed: int) -> Path:
    """Writes a LoRA adapter of `make_model`'s attention that changes its answers."""
    folder.mkdir()
    random = torch.Generator().manual_seed(seed)
    rank, hidden = 8, 128
    tensors = {}
    for layer in range(4):
        for name, rows in {"q_proj": 128, "k_proj": 64, "v_proj": 64, "o_proj": 128}.items():
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            for half, shape in {"lora_A": (rank, hidden), "lora_B": (rows, rank)}.items():
                drawn = torch.randn(*shape, generator=random) * 0.2
                tensors[f"{prefix}.{half}.weight"] = drawn
    save_file(tensors, folder / "adapter_model.safetensors")
    described = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank,
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
        "base_model_name_or_path": "model",
    }
    (folder / "adapter_config.json").write_text(json.dumps(described))
    return folder
