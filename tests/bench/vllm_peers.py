"""Time to the first token of a hit: our connector, vLLM's NixlConnector and LMCache, in turns.

Two pairs of vLLM servers at a time, ours and another, with the same model and the same prompt of
2,000 tokens, which each holder (core 0) has computed. In every round each reader (core 1) forgets
all and is asked for it. ``PAIR_to_ours``: its time over ours, pair by pair; ``first_ours_PAIR``:
share of rounds in which ours was the lower one. On demand: it takes ten minutes, and 11 GB.
``--lmcache-python`` names a Python with LMCache 0.5.6, ``--lmcache-vllm-python`` one with vLLM 0.32
and LMCache; without them that pair is left out. ``--only PAIR`` measures one.

How the others are run. NixlConnector with the changes that `vllm_nixl_shim` tells of, and its
request to the prefill server, which each read wants, is not counted. LMCache's servers read from
each other over NIXL, and their memory is emptied between rounds.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import harness

harness.import_paths()

from tests.bench import vllm_environment as bench

bench.ensure_vllm()

from examples.p2p_sharing.vllm.servers import Servers
from tests.bench.vllm_pairs import LMCachePair, NixlPair, OurPair

NUM_TOKENS = 2000
_OPTIONS = ["--rounds", "--only", "--lmcache-python", "--lmcache-vllm-python"]
Pair = OurPair | NixlPair | LMCachePair


def measure(pairs: list[Pair], rounds: int) -> dict[str, list[float]]:
    """Returns seconds to the first token of each pair's reader."""
    prompt = bench.prompt_of(NUM_TOKENS)
    for pair in pairs:
        pair.meet()
        pair.hold(prompt)
    seconds: dict[str, list[float]] = {pair.name: [] for pair in pairs}
    for number in range(rounds + 1):
        first = number % len(pairs)
        for pair in pairs[first:] + pairs[:first]:
            pair.forget()
            bench.await_idle()
            answer = pair.hit(prompt)
            least = NUM_TOKENS // bench.CHUNK_TOKENS * bench.CHUNK_TOKENS
            assert answer.num_cached >= least, (pair.name, answer)
            if number:  # the first round touches memory for the first time
                seconds[pair.name].append(answer.first_token_s)
    return seconds


def others(options: argparse.Namespace) -> dict[str, Callable[[Servers], Pair]]:
    """Returns how each pair is started that is asked for, beside ours."""
    found: dict[str, Callable[[Servers], Pair]] = {NixlPair.name: NixlPair}
    if options.lmcache_python:
        pythons = options.lmcache_python, options.lmcache_vllm_python
        found[LMCachePair.name] = lambda servers: LMCachePair(servers, *pythons)
    return {name: each for name, each in found.items() if options.only in {"", name}}


def against_ours(name: str, seconds: dict[str, list[float]]) -> dict[str, object]:
    """Returns both times, their ratio, and how often ours was the lower one."""
    ours, theirs = seconds[OurPair.name], seconds[name]
    return {
        f"{name}_to_ours": harness.spread(harness.paired(theirs, ours)),
        f"first_ours_{name}": sum(map(float.__le__, ours, theirs)) / len(ours),
        f"{name}_ms": harness.spread([1e3 * each for each in theirs]),
        f"ours_beside_{name}_ms": harness.spread([1e3 * each for each in ours]),
    }


def main() -> None:
    """Measures and prints."""
    options = harness.arguments(__doc__ or "", _OPTIONS)
    rounds = int(options.rounds or (30 if options.full else 12))
    figures: dict[str, object] = {}
    with TemporaryDirectory(prefix="p2p-bench-") as folder:
        model = bench.write_model(Path(folder))
        for name, start in others(options).items():
            with Servers(model, *bench.OPTIONS) as servers:
                seconds = measure([OurPair(servers), start(servers)], rounds)
            figures |= against_ours(name, seconds)
    figures["load"] = os.getloadavg()
    harness.report(figures, options)


if __name__ == "__main__":
    main()
