"""Channels side by side between two processes, as ratios: the worse of 2 MiB and 32 MiB chunks.

``shm_to_copy``: chunks read over `shm` by one thread, to plain copies between two private buffers
of the same size, in huge pages as pools lie. ``shm_to_nixl``: by two threads, to a bare NIXL READ
of the same bytes. Every figure is bandwidth over bandwidth. What `channels_nixl` and `channels_tcp`
measure comes with it.
"""

import ctypes
import multiprocessing as mp
import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import harness

harness.import_paths()
os.environ.setdefault("NIXL_LOG_LEVEL", "ERROR")

import numpy as np

from p2p.agent.memory import HostArena
from p2p.agent.shared_arena import SharedArena
from p2p.channel.base import ChannelOffer, Link, TransferState
from p2p.channel.shm import ShmChannel, ShmConfig
from p2p.regions import Region
from tests.bench import channels_nixl, channels_tcp
from tests.bench.bare_nixl import BareAgent, Remote

MIB = 1 << 20
CHUNKS = (2 * MIB, 32 * MIB)
NUM_BYTES = {2 * MIB: 64 * 2 * MIB, 32 * MIB: 16 * 32 * MIB}  # five buffers of each are needed
SEED = 3


def region_of(arena: HostArena, chunk_bytes: int) -> Region:
    """Returns an arena cut into chunks."""
    return Region(arena.region(chunk_bytes).segments, arena.num_bytes // chunk_bytes)


def hold(pipe: Connection) -> None:
    """The holder's process: for each size a pool on `shm`, and one that a bare agent serves."""
    for chunk_bytes in CHUNKS:
        size = NUM_BYTES[chunk_bytes]
        arena = SharedArena(size)
        content = np.random.default_rng(SEED).integers(0, 256, size, np.uint8)
        arena.view(0, size)[:] = content
        channel = ShmChannel(region_of(arena, chunk_bytes))
        agent = BareAgent(f"hold-{chunk_bytes}", size // chunk_bytes, chunk_bytes, serves=True)
        agent.buffer[:] = content
        del content
        pipe.send((channel.offer(), agent.remote()))
        pipe.recv()
        channel.close()
        del agent, arena


class Reader:
    """Every way to bring the same chunks here.

    Args:
        offer: of the holder's channel.
        remote: its bare agent.
        chunk_bytes: size of a chunk.
    """

    def __init__(self, offer: ChannelOffer, remote: Remote, chunk_bytes: int) -> None:
        size = NUM_BYTES[chunk_bytes]
        self._blocks = np.arange(size // chunk_bytes, dtype=np.int32)
        self._arena = HostArena(size)
        self._source = HostArena(size)
        self._chunk_bytes = chunk_bytes
        self._agent = BareAgent(f"read-{chunk_bytes}", size // chunk_bytes, chunk_bytes)
        self._agent.connect(remote)
        region = region_of(self._arena, chunk_bytes)
        self._channels = [
            ShmChannel(region, ShmConfig(num_threads=number, inline_bytes=0)) for number in (1, 2)
        ]
        self._links = [channel.connect("holder", offer, 10.0) for channel in self._channels]

    def ways(self) -> dict[str, Callable[[], None]]:
        """Returns them by name."""
        one, two = self._links
        return {
            "copy": self._copy,
            "shm1": lambda: self._read(one),
            "shm2": lambda: self._read(two),
            "nixl": lambda: self._agent.read(self._blocks),
        }

    def check(self) -> None:
        """Compares what `shm` brings with what the holder has."""
        expected = np.random.default_rng(SEED).integers(0, 256, self._arena.num_bytes, np.uint8)
        for link in self._links:
            self._arena.view(0, self._arena.num_bytes)[:] = 0
            self._read(link)
            assert np.array_equal(self._arena.view(0, self._arena.num_bytes), expected)

    def close(self) -> None:
        """Ends the channels."""
        for channel in self._channels:
            channel.close()

    def _copy(self) -> None:
        size = self._chunk_bytes
        for start in range(0, self._arena.num_bytes, size):
            ctypes.memmove(self._arena.address + start, self._source.address + start, size)

    def _read(self, link: Link) -> None:
        transfer = link.read(self._blocks, self._blocks)
        while transfer.poll() is TransferState.PENDING:
            pass
        assert transfer.poll() is TransferState.DONE, transfer.error()


def measure(reader: Reader, rounds: int) -> dict[str, list[float]]:
    """Returns the seconds of each way, round by round."""
    seconds: dict[str, list[float]] = {name: [] for name in reader.ways()}
    for number in range(rounds + 1):
        for name, way in reader.ways().items():
            taken = harness.timed(way)
            if number:
                seconds[name].append(taken)
    return seconds


def figures_of(seconds: dict[str, list[float]], size: int, label: str) -> dict[str, object]:
    """Returns the ratios and bandwidths of one chunk size."""
    figures: dict[str, object] = {}
    for name, slow, fast in (("shm_to_copy", "copy", "shm1"), ("shm_to_nixl", "nixl", "shm2")):
        ratios = harness.paired(seconds[slow], seconds[fast])
        figures[f"{name}_{label}"] = harness.spread(ratios)
    for name, taken in seconds.items():
        figures[f"{name}_gb_per_s_{label}"] = harness.spread([size / s / 1e9 for s in taken])
    return figures


def shm_figures(full: bool) -> dict[str, object]:
    """Returns the figures of `shm`."""
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    holder = context.Process(target=hold, args=(theirs,))
    holder.start()
    figures: dict[str, object] = {}
    medians: dict[str, list[float]] = {"shm_to_copy": [], "shm_to_nixl": []}
    for chunk_bytes in CHUNKS:
        offer, remote = ours.recv()
        reader = Reader(offer, remote, chunk_bytes)
        reader.check()
        label = f"{chunk_bytes // MIB}mib"
        rounds = 61 if full else 21
        size = NUM_BYTES[chunk_bytes]
        figures |= figures_of(measure(reader, rounds), size, label)
        for name, values in medians.items():
            spread = figures[f"{name}_{label}"]
            assert isinstance(spread, dict)
            values.append(float(spread["median"]))
        reader.close()
        del reader
        ours.send(None)
    holder.join(10)
    worst: dict[str, object] = {name: min(values) for name, values in medians.items()}
    return worst | figures


def main() -> None:
    """Measures and reports."""
    options = harness.arguments(__doc__ or "", ("--redis", "--mooncake"))
    figures = shm_figures(options.full)
    figures |= channels_nixl.run(options.full)
    figures |= channels_tcp.run(options.full, options.redis, options.mooncake)
    harness.report(figures, options)


if __name__ == "__main__":
    main()
