"""What sharing gives and costs a vLLM server: time to the first token, and throughput.

Three servers: A holds (core 0), B shares and C has no connector (both core 1, one at a time).

``shared_to_floor``: B's time to the first token of a prompt of 4,000 tokens that A has computed,
over that of C for its own prefix cache's hit plus a bare NIXL READ of the same bytes between two
processes. ``shared_to_cold``: the same over C's without any cache. ``throughput_without_hits``:
tokens per second of B over those of C, where everything is new and B saves all of it; its 95 %
interval is that of the median. All rounds are in turns. ``--only first_token`` or ``throughput``
runs one part.
"""

import multiprocessing as mp
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import harness

harness.import_paths()
os.environ.setdefault("NIXL_LOG_LEVEL", "ERROR")

from tests.bench import vllm_environment as bench

bench.ensure_vllm()

import numpy as np

from examples.p2p_sharing.vllm.servers import Server, Servers, await_ready
from tests.bench.bare_nixl import BareAgent
from tests.bench.vllm_load import tokens_per_second

NUM_TOKENS = 4000
NUM_ANSWER_TOKENS = 4
NUM_BLOCKS = NUM_TOKENS // bench.CHUNK_TOKENS


def hold_bare(pipe: Connection) -> None:
    """The bare holder's process."""
    agent = BareAgent("bare-a", NUM_BLOCKS, bench.CHUNK_BYTES, serves=True)
    pipe.send(agent.remote())
    pipe.recv()


class BareRead:
    """A NIXL READ of as many bytes as the shared prompt has, between two processes."""

    def __init__(self) -> None:
        spawn = mp.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._holder = spawn.Process(target=hold_bare, args=(theirs,), daemon=True)
        self._holder.start()
        self._agent = BareAgent("bare-b", NUM_BLOCKS, bench.CHUNK_BYTES)
        self._agent.connect(self._pipe.recv())
        self.seconds()  # the first one connects

    def seconds(self) -> float:
        """Returns the seconds of one."""
        return harness.timed(lambda: self._agent.read(np.arange(NUM_BLOCKS, dtype=np.int32)))

    def close(self) -> None:
        """Ends the holder."""
        self._pipe.send("end")
        self._holder.join()


def first_tokens(
    holder: Server, sharing: Server, plain: Server, rounds: int
) -> dict[str, list[float]]:
    """Returns seconds to the first token, by what was found. Only B forgets between rounds."""
    read = BareRead()
    prompt = bench.prompt_of(NUM_TOKENS)
    num_cached = NUM_BLOCKS * bench.CHUNK_TOKENS
    with ThreadPoolExecutor(1) as beside:  # they have a core each
        holding = beside.submit(bench.hold, holder, prompt)
        cold = plain.client.complete(prompt, NUM_ANSWER_TOKENS)
        holding.result()
    seconds: dict[str, list[float]] = {"cold": [cold.first_token_s]}

    def ask(name: str, server: Server) -> None:
        bench.await_idle()
        answer = server.client.complete(prompt, NUM_ANSWER_TOKENS)
        assert answer.num_cached == num_cached, (name, answer, server.client.metrics())
        assert answer.tokens == cold.tokens, (name, answer.tokens, cold.tokens)
        seconds.setdefault(name, []).append(answer.first_token_s)

    for number in range(rounds + 1):
        sharing.client.forget(external=True)
        turns = [("local", plain), ("shared", sharing)]
        for name, server in reversed(turns) if number % 2 else turns:
            ask(name, server)
        ask("local_sharing", sharing)
        seconds.setdefault("read", []).append(read.seconds())
        if number == 0:  # the pool's pages are touched for the first time
            seconds = {"cold": seconds["cold"]}
    read.close()
    return seconds


def throughputs(sharing: Server, plain: Server, rounds: int) -> dict[str, list[float]]:
    """Returns tokens per second of both, in turns."""
    found: dict[str, list[float]] = {"sharing": [], "plain": []}
    pair = {"sharing": sharing, "plain": plain}
    for server in pair.values():
        tokens_per_second(server)
    for number in range(rounds):
        for name in sorted(pair, reverse=bool(number % 2)):
            bench.await_idle()
            found[name].append(tokens_per_second(pair[name]))
    return found


def figures_of_first_tokens(seconds: dict[str, list[float]]) -> dict[str, object]:
    """Returns the ratios and what they are made of."""
    floor = [local + read for local, read in zip(seconds["local"], seconds["read"], strict=True)]
    to_floor = harness.spread(harness.paired(seconds["shared"], floor))
    to_cold = harness.spread([shared / seconds["cold"][0] for shared in seconds["shared"]])
    return {
        "shared_to_floor": to_floor["median"],
        "shared_to_floor_spread": to_floor,
        "shared_to_cold": to_cold["median"],
        "shared_to_cold_spread": to_cold,
        **{
            f"{name}_ms": harness.spread([1e3 * each for each in values])
            for name, values in seconds.items()
        },
    }


def figures_of_throughput(found: dict[str, list[float]]) -> dict[str, object]:
    """Returns the ratio with its interval."""
    ratios = harness.paired(found["sharing"], found["plain"])
    return {
        "throughput_without_hits": harness.spread(ratios)["median"],
        "throughput_without_hits_interval": harness.median_interval(ratios),
        "throughput_without_hits_spread": harness.spread(ratios),
        "tokens_per_second_sharing": harness.spread(found["sharing"]),
        "tokens_per_second_plain": harness.spread(found["plain"]),
    }


def main() -> None:
    """Measures and prints."""
    options = harness.arguments(__doc__ or "", ["--only", "--rounds"])
    figures: dict[str, object] = {}
    with TemporaryDirectory(prefix="p2p-bench-") as folder:
        model = bench.write_model(Path(folder))
        with Servers(model, *bench.OPTIONS) as servers:
            plain, sharing = servers.start_plain("c", "1"), servers.start("b", "1", bench.SHARING)
            if options.only != "throughput":
                holder = servers.start("a", "0", bench.SHARING)
                await_ready(holder, sharing, plain)
                bench.meet(holder, sharing)
                rounds = int(options.rounds or (60 if options.full else 20))
                figures |= figures_of_first_tokens(first_tokens(holder, sharing, plain, rounds))
            if options.only != "first_token":
                await_ready(sharing, plain)
                rounds = int(options.rounds or (40 if options.full else 10))
                figures |= figures_of_throughput(throughputs(sharing, plain, rounds))
            figures["counters"] = sharing.client.metrics()
    figures["load"] = os.getloadavg()
    harness.report(figures, options)


if __name__ == "__main__":
    main()
