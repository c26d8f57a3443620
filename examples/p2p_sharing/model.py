"""Converts the model once into the user's cache, and loads it from there in float32.

The package ships 4-bit weights (GGUF); what is written is an ordinary model folder. It appears by
a rename, so it is complete or absent, whoever else writes at the same time.
``python -m examples.p2p_sharing.model`` converts and does nothing else.
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
)

from examples.p2p_sharing.source import ModelSource, find_model

_SMALL_SEED = 20_240_817


class Tokenizer(Protocol):
    """What the demo needs of a tokenizer."""

    def encode_prompt(self, text: str, question: str) -> tuple[list[int], int]:
        """Returns a prompt's tokens, and how many of them depend on ``text`` alone."""
        ...

    def decode(self, tokens: list[int]) -> str:
        """Returns an answer's text, up to its end token."""
        ...


class ByteTokenizer:
    """One token per byte: all that a random model needs."""

    def encode_prompt(self, text: str, question: str) -> tuple[list[int], int]:
        """See `Tokenizer`."""
        prefix = list(text.encode())
        return prefix + list(f"\n\n{question}".encode()), len(prefix)

    def decode(self, tokens: list[int]) -> str:
        """See `Tokenizer`; a random model's bytes are no UTF-8, so every byte is a character."""
        return bytes(tokens).decode("latin-1")


class ChatTokenizer:
    """SmolLM2's tokenizer and chat form.

    Text and question are encoded apart: together, their border could merge into one token, and
    then the prefixes of two prompts with the same text would differ.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    def encode_prompt(self, text: str, question: str) -> tuple[list[int], int]:
        """See `Tokenizer`."""
        head = f"<|im_start|>user\nRead this text and answer the question below it.\n\n{text}"
        tail = f"\n\nQuestion: {question}<|im_end|>\n<|im_start|>assistant\n"
        prefix = self._tokenizer.encode(head)
        return prefix + self._tokenizer.encode(tail), len(prefix)

    def decode(self, tokens: list[int]) -> str:
        """See `Tokenizer`."""
        end = self._tokenizer.eos_token_id
        length = tokens.index(end) if end in tokens else len(tokens)
        return str(self._tokenizer.decode(tokens[:length]))


def prepare(source: ModelSource) -> None:
    """Converts or builds the model unless that was done before.

    Takes half a minute for SmolLM2-135M on two cores, and writes 540 MB.
    """
    if not source.is_ready:
        write = _write_small if source.gguf is None else _converter(source.gguf)
        create_folder(source.folder, write)


def load(source: ModelSource) -> tuple[nn.Module, Tokenizer]:
    """Loads a prepared model in float32, ready for inference, and its tokenizer."""
    model: nn.Module = AutoModelForCausalLM.from_pretrained(source.folder, dtype=torch.float32)
    model.eval()
    if source.gguf is None:
        return model, ByteTokenizer()
    return model, ChatTokenizer(AutoTokenizer.from_pretrained(source.folder))


def create_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Makes a folder that is complete or absent: ``write`` fills a draft, which is renamed.

    Raises:
        OSError: it cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        write(draft)
        try:
            draft.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, and its folder is as good
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _converter(gguf: Path) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
        )
        model.save_pretrained(folder)

    return write


def _write_small(folder: Path) -> None:
    torch.manual_seed(_SMALL_SEED)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=16_384,
        initializer_range=0.1,  # wide, so that the best two tokens are well apart
        bos_token_id=None,
        eos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


if __name__ == "__main__":
    prepare(find_model())
