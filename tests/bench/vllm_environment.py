"""What the benchmarks with vLLM share: their environment, their model and prompts, waiting.

The model is a Llama of 12 layers, 1,024 wide, 16 heads and 8 KV heads of 64, in float32 (processors
without bfloat16 take minutes for a prompt in it): 48 KiB of KV a token. vLLM makes up its weights;
what a token costs does not depend on them.
"""

import importlib.util
import json
import random
import sys
import time
from pathlib import Path

from examples.p2p_sharing.vllm.environment import main as run_with_vllm
from examples.p2p_sharing.vllm.servers import Server, await_counter

CHUNK_TOKENS = 128
CHUNK_BYTES = 12 * 2 * 8 * 64 * 4 * CHUNK_TOKENS  # layers, K and V, heads, dim, float32
VOCABULARY = 16_384
OPTIONS = (
    *("--load-format", "dummy", "--skip-tokenizer-init"),
    *("--max-model-len", "8448"),
)
SHARING = {"weights": "made-up"}
_random = random.Random(11)  # noqa: S311  prompts, not secrets


def ensure_vllm() -> None:
    """Runs this program again in the environment with vLLM, unless it is there already."""
    if importlib.util.find_spec("vllm") is None:
        run_with_vllm(sys.argv)


def write_model(folder: Path) -> Path:
    """Writes the model's description; there are no weights."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 12,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 8448,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def prompt_of(num_tokens: int) -> list[int]:
    """Returns a prompt that no server had before."""
    return [_random.randrange(VOCABULARY) for _ in range(num_tokens)]


def hold(server: Server, prompt: list[int]) -> float:
    """Lets a server compute a prompt until the directory knows its chunks; returns its TTFT."""
    before = server.client.metrics().get("saved_chunks", 0.0)
    first_token_s = server.client.complete(prompt, 2).first_token_s
    await_counter(server, "saved_chunks", before + len(prompt) // CHUNK_TOKENS)
    time.sleep(0.3)  # digests are taken, and the directory told
    return first_token_s


def await_idle() -> None:
    """Waits until no worker waits actively any more, as vLLM's do for a second after a step."""
    time.sleep(1.2)


def meet(holder: Server, reader: Server) -> None:
    """Lets a reader fetch from a holder until it does: a first contact may outlast its second."""
    for _ in range(5):
        prompt = prompt_of(2 * CHUNK_TOKENS + 1)
        hold(holder, prompt)
        if reader.client.complete(prompt, 1).num_cached:
            return
    raise AssertionError(f"no fetch: {reader.client.metrics()}")
