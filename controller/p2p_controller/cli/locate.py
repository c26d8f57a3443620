"""``p2p-controller locate``."""

import argparse
import sys
from pathlib import Path

import msgspec

from p2p.errors import ArgumentError
from p2p.keys import ChunkKey, chunk_keys
from p2p.wire.messages import Located
from p2p_controller.cli.asking import connect
from p2p_controller.cli.exit_code import ExitCode
from p2p_controller.cli.output import Table, write_json, write_line, write_table


def run(arguments: argparse.Namespace) -> ExitCode:
    """Prints the runs of the longest prefix; fails if that is not all of it."""
    keys = _keys(arguments)
    with connect(arguments) as client:
        located = client.locate(
            arguments.namespace,
            keys,
            instance=arguments.as_instance,
            tenant=arguments.tenant,
        )
    num_held = sum(run.count for run in located.runs)
    if arguments.json:
        write_json({"num_keys": len(keys), "num_held": num_held, "located": located})
    else:
        _write(located, num_held, len(keys))
    return ExitCode.OK if num_held == len(keys) else ExitCode.FAILED


def _write(located: Located, num_held: int, num_keys: int) -> None:
    rows: list[tuple[str | int, ...]] = []
    for run in located.runs:
        names = ", ".join(located.holders[index].instance for index in run.holders)
        rows.append((f"{run.start} to {run.start + run.count - 1}", run.count, names, run.more))
    if rows:
        write_table(Table(("chunks", "number", "holders, best first", "more"), rows))
    note = "; the directory is still being filled" if located.partial else ""
    write_line(f"{num_held} of {num_keys} chunks are held{note}")


def _keys(arguments: argparse.Namespace) -> list[ChunkKey]:
    sources = [bool(arguments.keys), bool(arguments.keys_file), bool(arguments.tokens_file)]
    if sum(sources) != 1:
        raise ArgumentError("keys", sum(sources), "give KEY words, --keys-file or --tokens-file")
    if arguments.tokens_file:
        return _keys_of_tokens(arguments)
    words = arguments.keys or _read(arguments.keys_file, "--keys-file").split()
    return [_key(word) for word in words]


def _key(word: str) -> ChunkKey:
    try:
        return ChunkKey(bytes.fromhex(word))
    except ValueError as error:
        raise ArgumentError("KEY", word, "write hexadecimal digits") from error


def _keys_of_tokens(arguments: argparse.Namespace) -> list[ChunkKey]:
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
