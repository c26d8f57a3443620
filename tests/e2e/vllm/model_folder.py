"""A small random Llama in float32, for engines whose answers need only be repeatable."""

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

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
