"""The chunk keys of a prompt, as commands that ask about one take them.

They are hex words, a file of those, or are made from token ids as instances make them.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from p2p.errors import ArgumentError

if TYPE_CHECKING:
    from p2p.keys import ChunkKey


def add_prompt_options(command: argparse.ArgumentParser) -> None:
    """Adds the words and options that `keys_of_prompt` reads."""
    command.add_argument("keys", nargs="*", metavar="KEY", help="chunk keys in hex, in order")
    command.add_argument("--keys-file", metavar="FILE", help="keys in hex, by lines; - is stdin")
    command.add_argument("--tokens-file", metavar="FILE", help="token ids, as JSON or words")
    command.add_argument("--chunk-tokens", type=int, metavar="N", help="tokens of one chunk")
    command.add_argument("--seed", default="", help="the namespace's key seed")
    command.add_argument("--salt", default="", help="the caller's cache salt")


def keys_of_prompt(arguments: argparse.Namespace) -> "list[ChunkKey]":
    """Returns the keys that the command line names, in order.

    Raises:
        ArgumentError: none or several sources are named, or one cannot be read.
    """
    sources = [bool(arguments.keys), bool(arguments.keys_file), bool(arguments.tokens_file)]
    if sum(sources) != 1:
        raise ArgumentError("keys", sum(sources), "give KEY words, --keys-file or --tokens-file")
    if arguments.tokens_file:
        return _keys_of_tokens(arguments)
    words = arguments.keys or _read(arguments.keys_file, "--keys-file").split()
    return [_key(word) for word in words]


def _key(word: str) -> "ChunkKey":
    from p2p.keys import ChunkKey  # noqa: PLC0415  (the parser loads this module, and no numpy)

    try:
        return ChunkKey(bytes.fromhex(word))
    except ValueError as error:
        raise ArgumentError("KEY", word, "write hexadecimal digits") from error


def _keys_of_tokens(arguments: argparse.Namespace) -> "list[ChunkKey]":
    from p2p.keys import chunk_keys  # noqa: PLC0415

    if arguments.chunk_tokens is None:
        raise ArgumentError("--chunk-tokens", None, "is needed with --tokens-file")
    text = _read(arguments.tokens_file, "--tokens-file")
    try:
        if text.lstrip().startswith("["):
            tokens = msgspec.json.decode(text, type=list[int])
        else:
            tokens = [int(word) for word in text.split()]
    except ValueError as error:
        raise ArgumentError("--tokens-file", arguments.tokens_file, str(error)) from error
    return chunk_keys(tokens, arguments.chunk_tokens, seed=arguments.seed, salt=arguments.salt)


def _read(name: str, option: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(option, name, str(error)) from error
