"""A fetch (locate, lease, read, verify, release) next to a bare NIXL READ of the same bytes.

``fetch_ratio_to_nixl``: bandwidth of fetching 64 chunks of 2 MiB, over that of one bare READ of the
same bytes between the same two processes; ``…_huge`` with NIXL's memory in huge pages too, as the
fabric's pools are; ``…_nixl2`` with two worker threads. ``small_fetch_to_floor``: time of fetching
one chunk of 64 KiB, over two bare DEALER/ROUTER round trips of the same sizes and a bare READ of 64
KiB; ``…_asking`` with a reader that always waits for the directory before it asks for a lease.
"""

import multiprocessing as mp
import os
import sys
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import harness

harness.import_paths()
os.environ.setdefault("NIXL_LOG_LEVEL", "ERROR")

import numpy as np
import zmq

from p2p.backend import BackendConfig, P2PBackend
from p2p.keys import ChunkKey, Namespace, chunk_keys
from p2p.layout import Layout
from tests.bench.bare_nixl import BareAgent, Remote

NAMESPACE = Namespace("bench", "0" * 32, "bfloat16")
LARGE = Layout(16, 8, 64, "bfloat16", block_tokens=16, chunk_tokens=64)  # 2 MiB
SMALL = Layout(4, 2, 64, "bfloat16", block_tokens=16, chunk_tokens=32)  # 64 KiB
NUM_LARGE = 64
NUM_SMALL = 256
LOCATE_BYTES = (200, 330)  # request and answer of one chunk, as `tests/unit/wire` encodes them
LEASE_BYTES = (230, 120)


def keys_of(layout: Layout, count: int, salt: str) -> list[ChunkKey]:
    """Returns keys of one prompt of ``count`` chunks."""
    return chunk_keys(range(count * layout.chunk_tokens), layout.chunk_tokens, salt=salt)


def small_keys() -> list[ChunkKey]:
    """Returns keys of as many prompts of one chunk."""
    return [keys_of(SMALL, 1, str(number))[0] for number in range(NUM_SMALL)]


def make_backend(
    name: str, controller: str, layout: Layout, num_chunks: int, ahead_bytes: int = 16 << 20
) -> P2PBackend:
    """Starts a backend with room for twice as many chunks."""
    config = BackendConfig(
        namespace=NAMESPACE,
        controller=controller,
        instance=name,
        pool_bytes=2 * num_chunks * layout.chunk_bytes,
        channel="nixl",
        ahead_bytes=ahead_bytes,
    )
    return P2PBackend.start(config, layout)


def fill(backend: P2PBackend, layout: Layout, prompts: list[list[ChunkKey]]) -> None:
    """Stores random chunks and waits until the directory knows them."""
    random = np.random.default_rng(7)
    for keys in prompts:
        chunks = random.integers(0, 256, (len(keys), layout.chunk_bytes), dtype=np.uint8)
        backend.put(keys, chunks)
    assert backend.wait_advertised(10)


def hold(controller: str, pipe: Connection) -> None:
    """The holder's process: two backends, and bare agents over buffers of the same size."""
    large = make_backend("large-a", controller, LARGE, NUM_LARGE)
    small = make_backend("small-a", controller, SMALL, NUM_SMALL)
    fill(large, LARGE, [keys_of(LARGE, NUM_LARGE, "")])
    fill(small, SMALL, [[key] for key in small_keys()])
    agents = [
        BareAgent("bare-large-a", NUM_LARGE, LARGE.chunk_bytes, serves=True),
        BareAgent("bare-small-a", NUM_SMALL, SMALL.chunk_bytes, serves=True),
        BareAgent("bare-huge-a", NUM_LARGE, LARGE.chunk_bytes, serves=True, huge=True),
    ]
    pipe.send([agent.remote() for agent in agents])
    pipe.recv()
    large.close()
    small.close()


def echo(pipe: Connection) -> None:
    """A bare ROUTER that answers each request with as many bytes as its first four say."""
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    pipe.send(socket.bind_to_random_port("tcp://127.0.0.1"))
    while True:
        route, body = socket.recv_multipart()
        size = int.from_bytes(body[:4], "big")
        if size == 0:
            break
        socket.send_multipart([route, b"\0" * size])
    context.destroy(0)


class Floor:
    """Two bare round trips of the sizes of locate and lease."""

    def __init__(self, port: int) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.connect(f"tcp://127.0.0.1:{port}")

    def round_trip(self, sizes: tuple[int, int]) -> None:
        """Sends and receives; blocks."""
        asked, answered = sizes
        self._socket.send(answered.to_bytes(4, "big") + bytes(asked - 4))
        self._socket.recv()

    def trips(self) -> None:
        """Both round trips."""
        self.round_trip(LOCATE_BYTES)
        self.round_trip(LEASE_BYTES)

    def close(self) -> None:
        """Ends the echo."""
        self._socket.send(bytes(4))
        self._context.destroy(200)


def measure_large(
    controller: str, remote: Remote, huge_remote: Remote, rounds: int
) -> dict[str, list[float]]:
    """Returns seconds of each way to bring 64 chunks of 2 MiB here."""
    backend = make_backend("large-b", controller, LARGE, NUM_LARGE)
    keys = keys_of(LARGE, NUM_LARGE, "")
    bare = BareAgent("bare-large-b", NUM_LARGE, LARGE.chunk_bytes)
    bare2 = BareAgent("bare-large-b2", NUM_LARGE, LARGE.chunk_bytes, threads=2)
    huge = BareAgent("bare-huge-b", NUM_LARGE, LARGE.chunk_bytes, huge=True)
    bare.connect(remote)
    bare2.connect(remote)
    huge.connect(huge_remote)
    blocks = np.arange(NUM_LARGE, dtype=np.int32)
    seconds: dict[str, list[float]] = {"fetch": [], "nixl": [], "nixl2": [], "huge": []}

    def fetch() -> None:
        with backend.fetch(keys, budget_s=10) as result:
            assert result.num_chunks == NUM_LARGE, result.detail

    for number in range(rounds + 2):
        pairs = {
            "fetch": harness.timed(fetch),
            "nixl": harness.timed(lambda: bare.read(blocks)),
            "nixl2": harness.timed(lambda: bare2.read(blocks)),
            "huge": harness.timed(lambda: huge.read(blocks)),
        }
        backend.clear()
        backend.wait_advertised(5)
        if number >= 2:
            for name, value in pairs.items():
                seconds[name].append(value)
    backend.close()
    return seconds


def measure_small(
    controller: str, remote: Remote, port: int, rounds: int
) -> dict[str, list[float]]:
    """Returns seconds of a small fetch and of its floor."""
    backend = make_backend("small-b", controller, SMALL, NUM_SMALL)
    asking = make_backend("small-c", controller, SMALL, NUM_SMALL, ahead_bytes=0)
    bare = BareAgent("bare-small-b", NUM_SMALL, SMALL.chunk_bytes)
    bare.connect(remote)
    floor = Floor(port)
    keys = small_keys()
    names = ("fetch", "asking", "floor", "trip", "read")
    seconds: dict[str, list[float]] = {name: [] for name in names}

    def fetch(reader: P2PBackend, key: ChunkKey) -> None:
        with reader.fetch([key], budget_s=10) as result:
            assert result.num_chunks == 1, result.detail

    def bare_read(block: int) -> None:
        bare.read(np.array([block], dtype=np.int32))

    for number in range(rounds):
        block = number % NUM_SMALL
        if block == 0:
            for reader in (backend, asking):
                reader.clear()
                assert reader.wait_advertised(5)
                fetch(reader, keys[0])  # the first one connects
            continue
        trip, read = harness.timed(floor.trips), harness.timed(partial(bare_read, block))
        seconds["fetch"].append(harness.timed(partial(fetch, backend, keys[block])))
        seconds["asking"].append(harness.timed(partial(fetch, asking, keys[block])))
        seconds["trip"].append(trip)
        seconds["read"].append(read)
        seconds["floor"].append(trip + read)
    floor.close()
    backend.close()
    asking.close()
    return seconds


def main() -> None:
    """Measures and prints."""
    options = harness.arguments(__doc__ or "")
    spawn = mp.get_context("spawn")
    with harness.controller() as controller:
        ours, theirs = spawn.Pipe()
        holder = spawn.Process(target=hold, args=(controller, theirs))
        holder.start()
        echo_ours, echo_theirs = spawn.Pipe()
        echoing = spawn.Process(target=echo, args=(echo_theirs,))
        echoing.start()
        large_remote, small_remote, huge_remote = ours.recv()
        rounds = 60 if options.full else 21
        large = measure_large(controller, large_remote, huge_remote, rounds)
        small_rounds = 4000 if options.full else 1000
        small = measure_small(controller, small_remote, echo_ours.recv(), small_rounds)
        ours.send("end")
        holder.join()
        echoing.join()
    total = NUM_LARGE * LARGE.chunk_bytes
    ratios = harness.paired(large["nixl"], large["fetch"])
    ratios2 = harness.paired(large["nixl2"], large["fetch"])
    ratios_huge = harness.paired(large["huge"], large["fetch"])
    small_ratios = harness.paired(small["fetch"], small["floor"])
    asking_ratios = harness.paired(small["asking"], small["floor"])
    harness.report(
        {
            "fetch_ratio_to_nixl": harness.spread(ratios)["median"],
            "fetch_ratio_to_nixl_spread": harness.spread(ratios),
            "fetch_ratio_to_nixl_nixl2": harness.spread(ratios2)["median"],
            "fetch_ratio_to_nixl_huge": harness.spread(ratios_huge)["median"],
            "fetch_ratio_to_nixl_huge_spread": harness.spread(ratios_huge),
            "small_fetch_to_floor": harness.spread(small_ratios)["median"],
            "small_fetch_to_floor_spread": harness.spread(small_ratios),
            "small_fetch_to_floor_asking": harness.spread(asking_ratios)["median"],
            "fetch_gb_per_s": harness.spread([total / s / 1e9 for s in large["fetch"]]),
            "nixl_gb_per_s": harness.spread([total / s / 1e9 for s in large["nixl"]]),
            "nixl2_gb_per_s": harness.spread([total / s / 1e9 for s in large["nixl2"]]),
            "nixl_huge_gb_per_s": harness.spread([total / s / 1e9 for s in large["huge"]]),
            "small_fetch_us": harness.spread([s * 1e6 for s in small["fetch"]]),
            "two_round_trips_us": harness.spread([s * 1e6 for s in small["trip"]]),
            "bare_small_read_us": harness.spread([s * 1e6 for s in small["read"]]),
        },
        options,
    )


if __name__ == "__main__":
    main()
