"""Prefill on top of reused chunks gives what a whole prefill gives."""

import warnings

import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what transformers says while it is imported is not ours
    from transformers import LlamaConfig, LlamaForCausalLM

    from examples.p2p_sharing.engine import Engine

CHUNK_TOKENS = 16
PROMPT = [(7 * position + position // 5) % 64 for position in range(5 * CHUNK_TOKENS + 9)]


@pytest.fixture(scope="module")
def engine():
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    return Engine(LlamaForCausalLM(config).eval(), CHUNK_TOKENS)


def test_the_layout_is_the_models(engine):
    layout = engine.layout
    layout.check()
    assert (layout.num_layers, layout.num_kv_heads, layout.head_dim) == (2, 2, 16)
    assert layout.chunk_bytes == 2 * 2 * 2 * 16 * CHUNK_TOKENS * 4


@pytest.mark.parametrize("num_reused", [1, 3, 5])
def test_reuse_changes_no_token(engine, num_reused):
    cold = engine.prefill(PROMPT, [])
    chunks = list(engine.chunks(cold, range(5)))
    answer = engine.decode(cold, 12)
    shared = engine.prefill(PROMPT, chunks[:num_reused])
    assert torch.allclose(shared.logits, cold.logits, atol=1e-4)
    assert engine.decode(shared, 12).tokens == answer.tokens


def test_wrong_chunks_change_the_logits(engine):
    cold = engine.prefill(PROMPT, [])
    chunks = engine.chunks(cold, range(2))
    wrong = engine.prefill(PROMPT, [chunks[0], chunks[0]])
    assert not torch.allclose(wrong.logits, cold.logits, atol=1e-2)


def test_an_answer_has_its_length_and_margin(engine):
    answer = engine.decode(engine.prefill(PROMPT, []), 5)
    assert len(answer.tokens) == 5
    assert answer.smallest_margin >= 0


def test_warm_up_fits_every_vocabulary(engine):
    engine.warm_up()
