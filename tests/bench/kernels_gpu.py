"""Gather and scatter on a GPU, as shares of a device-to-device copy measured in the same run.

Rows of 64 bytes, 256 bytes and 2 KiB, head by head in the chunk and token by token in the pages,
so that nothing merges; and rows of 64 KiB with chunks in pinned host memory, to a pinned copy.
256 MiB a copy, of a cache of 4 GiB, so that the device and not Python is timed. Rounds of a plain
copy and of each implementation alternate; a share is the median of the rounds' ratios. Prints
JSON, in one line with ``--json``. Without a GPU it says so.
"""

import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import harness

harness.import_paths()

import numpy as np
import torch

from p2p.errors import LocalError
from p2p.kernels import ChunkSpec, PageAxes, PageMemory, copy_plan
from p2p_kernels.machine import device_key, synchronize
from p2p_kernels.registry import ENTRIES, create

ROW_BYTES = (64, 256, 2048)
HOST_ROW_BYTES = 64 << 10
HEADS, BLOCK_TOKENS = 8, 16
ROUNDS, REPEATS = 9, 5


def measure(device, implementations, cache_bytes=4 << 30, chunk_bytes=256 << 20, rounds=ROUNDS):
    """Returns by implementation the share of a plain copy that each case reaches.

    What cannot run is left out, with a line on stderr.
    """
    found = {}
    source = torch.ones(cache_bytes, dtype=torch.uint8, device=device)
    slot = torch.ones(chunk_bytes, dtype=torch.uint8, device=device)
    on_host = torch.ones(chunk_bytes, dtype=torch.uint8, pin_memory=device != "cpu")
    for implementation in implementations:
        shares: dict[str, float] = {}
        try:
            for row_bytes in ROW_BYTES:
                shares |= _shares(source, slot, row_bytes, implementation, rounds)
            from_host = _shares(source, on_host, HOST_ROW_BYTES, implementation, rounds)
            shares |= {f"host {case}": share for case, share in from_host.items()}
        except LocalError as error:
            print(f"{implementation}: {error}", file=sys.stderr)
            continue
        found[str(implementation)] = shares
    return found


def _shares(source, slot, row_bytes, implementation, rounds):
    block_bytes = BLOCK_TOKENS * HEADS * row_bytes
    num_blocks = source.numel() // 2 // block_bytes
    pages = source[: 2 * num_blocks * block_bytes]
    pages = pages.view(2, num_blocks, BLOCK_TOKENS, HEADS, row_bytes)
    memory = PageMemory.of_tensors(pages, PageAxes.KV_FIRST_NHD)
    copier = create(memory, implementation)
    blocks = slot.numel() // 2 // block_bytes
    chunk = ChunkSpec.canonical(2, HEADS, blocks * BLOCK_TOKENS, row_bytes, 1)
    order = np.random.default_rng(1).permutation(num_blocks)
    part = slot[: chunk.chunk_bytes]
    plans = [
        copy_plan(memory.spec, chunk, np.roll(order, number * blocks)[:blocks])
        for number in range(REPEATS)
    ]

    def span(number):
        start = number * chunk.chunk_bytes % (source.numel() - chunk.chunk_bytes + 1)
        return source[start : start + chunk.chunk_bytes]

    ways = {
        "gather": (
            lambda number: part.copy_(span(number)),
            lambda number: copier.gather(plans[number], [part]),
        ),
        "scatter": (
            lambda number: span(number).copy_(part),
            lambda number: copier.scatter(plans[number], [part]),
        ),
    }
    device = memory.spec.device
    return {
        f"{way} {row_bytes}": statistics.median(
            _seconds(plainly, device) / _seconds(copy, device) for _ in range(rounds)
        )
        for way, (plainly, copy) in ways.items()
    }


def _seconds(copy, device):
    copy(0)  # compiles what it needs
    synchronize(device)
    start = time.perf_counter()
    for number in range(REPEATS):
        copy(number)
    synchronize(device)
    return time.perf_counter() - start


def main():
    if not torch.cuda.is_available():
        print("no CUDA device: nothing was measured")
        return
    names = [
        name for name, entry in ENTRIES.items() if not entry.devices or "cuda" in entry.devices
    ]
    found = {"device": device_key("cuda:0"), "share_of_copy": measure("cuda:0", names)}
    print(json.dumps(found) if "--json" in sys.argv else json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
