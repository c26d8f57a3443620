"""The `nixl` channel beside NIXL by itself, between two processes, as ratios.

``nixl_to_bare``: bandwidth, the worse of 2 MiB and 32 MiB chunks. ``nixl_latency_to_bare``: a 4 KiB
read that is posted and polled on the thread that owns the channel.
"""

import multiprocessing as mp
import os
import statistics
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import harness

harness.import_paths()
os.environ.setdefault("NIXL_LOG_LEVEL", "ERROR")

import numpy as np

from p2p.agent.memory import HostArena
from p2p.channel.base import Link, TransferState
from p2p.channel.nixl import NixlChannel
from p2p.regions import Region
from tests.bench.bare_nixl import BareAgent

MIB = 1 << 20
SMALL = 4096
NUM_BLOCKS = {2 * MIB: 64, 32 * MIB: 16, SMALL: 256}
_SMALL_READS = 200


def region_of(arena: HostArena, block_bytes: int) -> Region:
    """Returns an arena cut into blocks."""
    return Region(arena.region(block_bytes).segments, NUM_BLOCKS[block_bytes])


def hold(pipe: Connection) -> None:
    """The holder's process: for each size a channel and a bare agent over memory in huge pages."""
    for block_bytes, num in NUM_BLOCKS.items():
        arena = HostArena(num * block_bytes)
        channel = NixlChannel(region_of(arena, block_bytes))
        agent = BareAgent(f"hold-{block_bytes}", num, block_bytes, serves=True, huge=True)
        content = np.random.default_rng(3).integers(0, 256, num * block_bytes, np.uint8)
        arena.view(0, len(content))[:] = content
        agent.buffer[:] = content
        pipe.send((channel.offer(), agent.remote()))
        pipe.recv()
        channel.close()
        del agent


def read(link: Link, blocks: np.ndarray) -> None:
    """Reads blocks and polls until they are there."""
    transfer = link.read(blocks, blocks)
    while transfer.poll() is TransferState.PENDING:
        pass
    assert transfer.poll() is TransferState.DONE, transfer.error()


def repeated(way: Callable[[np.ndarray], None], block_bytes: int) -> Callable[[], None]:
    """Returns all blocks at once, or many small reads one after the other."""
    if block_bytes != SMALL:
        return partial(way, np.arange(NUM_BLOCKS[block_bytes], dtype=np.int32))
    blocks = [np.array([number], np.int32) for number in range(_SMALL_READS)]

    def one_by_one() -> None:
        for block in blocks:
            way(block)

    return one_by_one


def run(full: bool) -> dict[str, object]:
    """Returns all figures."""
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    holder = context.Process(target=hold, args=(theirs,))
    holder.start()
    figures: dict[str, object] = {}
    medians: dict[int, float] = {}
    for block_bytes, num in NUM_BLOCKS.items():
        offer, remote = ours.recv()
        arena = HostArena(num * block_bytes)
        channel = NixlChannel(region_of(arena, block_bytes))
        link = channel.connect("holder", offer, 10.0)
        agent = BareAgent(f"read-{block_bytes}", num, block_bytes, huge=True)
        agent.connect(remote)
        mine, bare = repeated(partial(read, link), block_bytes), repeated(agent.read, block_bytes)
        mine()
        bare()
        assert np.array_equal(arena.view(0, SMALL), agent.buffer[:SMALL])
        pairs = [(harness.timed(mine), harness.timed(bare)) for _ in range(61 if full else 21)]
        label = "4kib" if block_bytes == SMALL else f"{block_bytes // MIB}mib"
        speed = [theirs_s / ours_s for ours_s, theirs_s in pairs]
        figures[f"nixl_to_bare_{label}"] = harness.spread(speed)
        medians[block_bytes] = statistics.median(speed)
        channel.close()
        del agent
        ours.send(None)
    holder.join(10)
    worst: dict[str, object] = {
        "nixl_to_bare": min(value for size, value in medians.items() if size != SMALL),
        "nixl_latency_to_bare": 1 / medians[SMALL],
    }
    return worst | figures


if __name__ == "__main__":
    given = harness.arguments(__doc__ or "")
    harness.report(run(given.full), given)
