"""What verification costs: fetches of 64 chunks of 2 MiB by readers that verify and that do not.

``verify_cost``: the part of the bandwidth of an unverified fetch that verification takes away.
``verify_cost_sample``: the same for a reader that verifies one read in 16.
``plan_lease_cpu_to_dict``: see `plan_lease`.
"""

import multiprocessing as mp
import os
import sys
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import harness

harness.import_paths()
os.environ.setdefault("NIXL_LOG_LEVEL", "ERROR")

import numpy as np

from p2p.backend import BackendConfig, P2PBackend
from p2p.keys import ChunkKey, Namespace, chunk_keys
from p2p.layout import Layout
from tests.bench import plan_lease

NAMESPACE = Namespace("bench", "0" * 32, "bfloat16")
LAYOUT = Layout(16, 8, 64, "bfloat16", block_tokens=16, chunk_tokens=64)  # 2 MiB
NUM_CHUNKS = 64
MODES: tuple[Literal["always", "sample", "off"], ...] = ("always", "sample", "off")


def keys() -> list[ChunkKey]:
    """Returns the keys of the prompt that is fetched."""
    return chunk_keys(range(NUM_CHUNKS * LAYOUT.chunk_tokens), LAYOUT.chunk_tokens)


def start(controller: str, name: str, verify: Literal["always", "sample", "off"]) -> P2PBackend:
    """Starts an instance with room for the prompt."""
    config = BackendConfig(
        namespace=NAMESPACE,
        controller=controller,
        instance=name,
        pool_bytes=NUM_CHUNKS * LAYOUT.chunk_bytes,
        channel="nixl",
        verify=verify,
    )
    return P2PBackend.start(config, LAYOUT)


def hold(controller: str, pipe: Connection) -> None:
    """The holder's process."""
    with start(controller, "holder", "always") as backend:
        random = np.random.default_rng(7)
        shape = (NUM_CHUNKS, LAYOUT.chunk_bytes)
        backend.put(keys(), random.integers(0, 256, shape, dtype=np.uint8))
        assert backend.wait_advertised(10)
        pipe.send("ready")
        pipe.recv()


def measure(controller: str, rounds: int) -> dict[str, list[float]]:
    """Returns seconds of a fetch by mode, in turns."""
    readers = {mode: start(controller, f"reader-{mode}", mode) for mode in MODES}
    wanted = keys()
    seconds: dict[str, list[float]] = {mode: [] for mode in MODES}

    def fetch(reader: P2PBackend) -> None:
        with reader.fetch(wanted, budget_s=10) as result:
            assert result.num_chunks == NUM_CHUNKS, result.detail

    for number in range(rounds + 2):
        for mode, reader in readers.items():
            taken = harness.timed(partial(fetch, reader))
            reader.clear()
            assert reader.wait_advertised(5)
            if number >= 2:
                seconds[mode].append(taken)
    for reader in readers.values():
        reader.close()
    return seconds


def main() -> None:
    """Measures and prints."""
    options = harness.arguments(__doc__ or "")
    spawn = mp.get_context("spawn")
    with harness.controller_process() as (controller, process):
        spent = plan_lease.measure(controller, process.pid, 10_000 if options.full else 2_000)
        ours, theirs = spawn.Pipe()
        holder = spawn.Process(target=hold, args=(controller, theirs), daemon=True)
        holder.start()
        ours.recv()
        seconds = measure(controller, 120 if options.full else 40)
        ours.send("end")
        holder.join()
    total = NUM_CHUNKS * LAYOUT.chunk_bytes
    kept = {mode: harness.paired(seconds["off"], seconds[mode]) for mode in ("always", "sample")}
    harness.report(
        {
            "verify_cost": 1 - harness.spread(kept["always"])["median"],
            "verify_cost_spread": harness.spread([1 - ratio for ratio in kept["always"]]),
            "verify_cost_sample": 1 - harness.spread(kept["sample"])["median"],
            "plan_lease_cpu_to_dict": (spent["reader"] + spent["holder"] + spent["controller"])
            / spent["dict"],
            "plan_lease_cpu_us": spent,
            **{
                f"{mode}_gb_per_s": harness.spread([total / s / 1e9 for s in taken])
                for mode, taken in seconds.items()
            },
        },
        options,
    )


if __name__ == "__main__":
    main()
