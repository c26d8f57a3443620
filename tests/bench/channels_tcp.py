"""The `tcp` channel beside others that move bytes over TCP between two processes, as ratios.

2 MiB and 32 MiB chunks, 64 and 16 in flight, the worse size. ``tcp_to_socket``: bandwidth, to the
best bare socket loop with as many streams. ``tcp_cpu_to_socket``: processor time per byte of both
sides. ``tcp_to_nixl_tcp``: to a bare NIXL READ over UCX TCP whose progress threads do not spin.
``tcp_to_redis``: to GET of the same values, with ``--redis PATH`` of a server and its package.
``tcp_to_mooncake``: to its engine over TCP, with ``--mooncake PATH`` of a Python that has it.
"""

import multiprocessing as mp
import os
import sys
import time
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
from p2p.channel.base import ChannelOffer, Link, TransferState
from p2p.channel.tcp import TcpChannel, TcpConfig
from p2p.regions import Region
from tests.bench.bare_nixl import BareAgent, Remote
from tests.bench.foreign import Mooncake, Redis
from tests.bench.sockets import BareReader, BareServer

MIB = 1 << 20
NUM_BYTES = {2 * MIB: 64 * 2 * MIB, 32 * MIB: 16 * 32 * MIB}
SEED = 3
STREAMS = (1, 2)


def content_of(num_bytes: int) -> np.ndarray:
    """Returns what the holder has."""
    return np.random.default_rng(SEED).integers(0, 256, num_bytes, np.uint8)


def region_of(arena: HostArena, chunk_bytes: int) -> Region:
    """Returns an arena cut into chunks."""
    return Region(arena.region(chunk_bytes).segments, arena.num_bytes // chunk_bytes)


def hold(pipe: Connection) -> None:
    """The holder's process: answers every message with its processor time until it is told None."""
    for chunk_bytes, size in NUM_BYTES.items():
        arena = HostArena(size)
        arena.view(0, size)[:] = content_of(size)
        channel = TcpChannel(region_of(arena, chunk_bytes))
        server = BareServer(arena.view(0, size), chunk_bytes)
        num = size // chunk_bytes
        agent = BareAgent(f"hold-{chunk_bytes}", num, chunk_bytes, serves=True, transports="tcp")
        agent.buffer[:] = arena.view(0, size)
        pipe.send((channel.offer(), server.port, agent.remote()))
        while pipe.recv() is not None:
            pipe.send(time.process_time())
        channel.close()
        del agent


class Reader:
    """Every way to bring the same chunks here over TCP.

    Args:
        offer: of the holder's channel.
        port: of its bare server.
        remote: its bare agent.
        chunk_bytes: size of a chunk.
    """

    def __init__(self, offer: ChannelOffer, port: int, remote: Remote, chunk_bytes: int) -> None:
        size = NUM_BYTES[chunk_bytes]
        self._chunks = np.arange(size // chunk_bytes, dtype=np.int32)
        self.arena = HostArena(size)
        num = size // chunk_bytes
        self._agent = BareAgent(f"read-{chunk_bytes}", num, chunk_bytes, transports="tcp")
        self._agent.connect(remote)
        region = region_of(self.arena, chunk_bytes)
        view = self.arena.view(0, size)
        self.ways: dict[str, Callable[[], None]] = {}
        self._channels = []
        for number in STREAMS:
            bare = BareReader(port, view, chunk_bytes, number)
            channel = TcpChannel(region, TcpConfig(num_streams=number))
            self._channels.append(channel)
            link = channel.connect("holder", offer, 10.0)
            self.ways[f"socket{number}"] = partial(bare.read, self._chunks)
            self.ways[f"tcp{number}"] = partial(self._read, link)
        self.ways["nixl_tcp"] = lambda: self._agent.read(self._chunks)

    def check(self) -> None:
        """Compares what each way but the last brings with what the holder has."""
        expected = content_of(self.arena.num_bytes)
        for name, way in self.ways.items():
            view = self._agent.buffer if name == "nixl_tcp" else self.arena.view(0, len(expected))
            view[:] = 0
            way()
            assert np.array_equal(view, expected), name

    def close(self) -> None:
        """Ends the channels."""
        for channel in self._channels:
            channel.close()

    def _read(self, link: Link) -> None:
        """Submits each chunk by itself, all in flight, and looks for its end as a lane does."""
        start_s = time.monotonic()
        transfers = [link.read([chunk], [chunk]) for chunk in self._chunks.tolist()]
        for transfer in transfers:
            while transfer.poll() is TransferState.PENDING:
                time.sleep(max(1e-4, min((time.monotonic() - start_s) / 32, 1e-3)))
            assert transfer.poll() is TransferState.DONE, transfer.error()


Samples = dict[str, list[tuple[float, float]]]


def measure(ways: dict[str, Callable[[], None]], pipe: Connection, rounds: int) -> Samples:
    """Returns wall and processor seconds of each way, both sides together, round by round."""
    samples: Samples = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            before = processor_s(pipe)
            seconds = harness.timed(way)
            used = processor_s(pipe) - before
            if number:
                samples[name].append((seconds, used))
    return samples


def processor_s(pipe: Connection) -> float:
    """Returns the processor time that both processes have used."""
    pipe.send(1)
    return float(pipe.recv()) + time.process_time()


def ratios_of(samples: Samples) -> dict[str, list[float]]:
    """Returns every ratio of one chunk size, round by round."""
    wall = {name: [pair[0] for pair in pairs] for name, pairs in samples.items()}
    used = {name: [pair[1] for pair in pairs] for name, pairs in samples.items()}
    best = min(STREAMS, key=lambda number: sorted(wall[f"tcp{number}"])[len(wall["tcp1"]) // 2])
    ours, bare = f"tcp{best}", f"socket{best}"
    ratios = {
        "tcp_to_socket": harness.paired(wall[bare], wall[ours]),
        "tcp_cpu_to_socket": harness.paired(used[ours], used[bare]),
        "tcp_to_nixl_tcp": harness.paired(wall["nixl_tcp"], wall[ours]),
    }
    for name in ("redis", "mooncake"):
        if name in wall:
            ratios[f"tcp_to_{name}"] = harness.paired(wall[name], wall[ours])
    for number in STREAMS:
        pair = wall[f"socket{number}"], wall[f"tcp{number}"]
        ratios[f"tcp_to_socket_{number}_streams"] = harness.paired(*pair)
    return ratios


def run(full: bool, redis: str, mooncake: str) -> dict[str, object]:
    """Returns all figures."""
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    holder = context.Process(target=hold, args=(theirs,))
    holder.start()
    figures: dict[str, object] = {}
    medians: dict[str, list[float]] = {}
    for chunk_bytes, size in NUM_BYTES.items():
        offer, port, remote = ours.recv()
        reader = Reader(offer, port, remote, chunk_bytes)
        reader.check()
        view, content = reader.arena.view(0, size), content_of(size)
        others = []
        if redis:
            others.append(Redis(redis, view, content, chunk_bytes))
        if mooncake:
            others.append(Mooncake(mooncake, chunk_bytes, size // chunk_bytes))
        ways = reader.ways | {other.name: other.read for other in others}
        samples = measure(ways, ours, 31 if full else 9)
        label = f"{chunk_bytes // MIB}mib"
        for name, values in ratios_of(samples).items():
            figures[f"{name}_{label}"] = spread = harness.spread(values)
            medians.setdefault(name, []).append(spread["median"])
        for name, pairs in samples.items():
            rates = [size / seconds / 1e9 for seconds, _ in pairs]
            figures[f"{name}_gb_per_s_{label}"] = harness.spread(rates)
        for other in others:
            other.close()
        reader.close()
        ours.send(None)
    holder.join(10)
    worst = {n: max(v) if n == "tcp_cpu_to_socket" else min(v) for n, v in medians.items()}
    return worst | figures


def main() -> None:
    """Measures and reports."""
    options = harness.arguments(__doc__ or "", ("--redis", "--mooncake"))
    harness.report(run(options.full, options.redis, options.mooncake), options)


if __name__ == "__main__":
    main()
