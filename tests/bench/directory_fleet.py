"""What the benchmark of the directory runs next to it: pretended instances, an echo, askers.

Each role is a process of its own: ``python -m tests.bench.directory_fleet ROLE ARGUMENTS``.
"""

import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zmq

from p2p.changes import Changes
from p2p.directory import Directory
from p2p.keys import Namespace
from p2p.layout import Layout
from p2p.view_hash import VIEW_HASH_MASK, view_hashes
from p2p.wire.codec import RequestId, encode, split
from p2p.wire.decoders import CONTROLLER_REPLIES
from p2p.wire.exchange import Sender
from p2p.wire.messages import (
    ControllerRequest,
    EventKind,
    Events,
    Heartbeat,
    Locate,
    Register,
    Registered,
    SnapshotPage,
)
from p2p_controller.server import ControllerServer
from p2p_controller.settings import ControllerSettings
from tests.bench import harness

NAMESPACE = Namespace(model="bench", weights_digest="0" * 32, kv_dtype="bfloat16")
LAYOUT = Layout(1, 1, 64, "bfloat16", block_tokens=16, chunk_tokens=16)
KEY_BYTES = 32
CHAIN_KEYS = 100
NUM_CHAINS = 10_000
TIER = EventKind.ADMIT_DEVICE.value
BATCH_KEYS = 4096
PAGE_KEYS = 8192  # as an instance cuts its snapshot
_SENDER = Sender(b"fleet", RequestId(1))
SEED = 7


def key_blob(num_keys: int, seed: int = SEED) -> bytes:
    """Returns random keys, the same ones for the same seed."""
    return random.Random(seed).randbytes(num_keys * KEY_BYTES)  # noqa: S311


def chain_blobs(num_chains: int = NUM_CHAINS, seed: int = SEED) -> list[bytes]:
    """Returns the keys of each chain."""
    blob, chain_bytes = key_blob(num_chains * CHAIN_KEYS, seed), CHAIN_KEYS * KEY_BYTES
    return [blob[at : at + chain_bytes] for at in range(0, len(blob), chain_bytes)]


def register(name: str) -> Register:
    """Returns how a pretended instance reports for duty."""
    return Register(
        instance=name,
        incarnation=1,
        namespace=NAMESPACE,
        layout=LAYOUT,
        address=f"tcp://10.0.0.1:{7700 + len(name)}",
        host=f"host-of-{name}",
        rack="rack-1",
    )


def instance_name(number: int) -> str:
    """Returns the id of a pretended instance."""
    return f"instance-{number:04}"


def batches(name: str, epoch: int, blob: bytes, batch_keys: int = BATCH_KEYS) -> list[Events]:
    """Returns the events that admit keys."""
    step = batch_keys * KEY_BYTES
    return [
        Events(
            instance=name,
            incarnation=1,
            epoch=epoch,
            first_seq=at // KEY_BYTES + 1,
            kinds=bytes([TIER]) * (len(blob[at : at + step]) // KEY_BYTES),
            keys=blob[at : at + step],
            key_bytes=KEY_BYTES,
        )
        for at in range(0, len(blob), step)
    ]


def pages(name: str, epoch: int, blob: bytes) -> list[SnapshotPage]:
    """Returns the snapshot of an instance that holds these keys."""
    step = PAGE_KEYS * KEY_BYTES
    starts = range(0, len(blob), step)
    return [
        SnapshotPage(
            instance=name,
            incarnation=1,
            epoch=epoch,
            sync=1,
            start_seq=len(blob) // KEY_BYTES,
            page=number,
            last=at == starts[-1],
            kinds=bytes([TIER]) * (len(blob[at : at + step]) // KEY_BYTES),
            keys=blob[at : at + step],
            key_bytes=KEY_BYTES,
        )
        for number, at in enumerate(starts)
    ]


class Line:
    """A DEALER to a controller that keeps a window of requests under way."""

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.connect(address)

    def ask(self, message: ControllerRequest) -> object:
        """Returns the answer to one request."""
        self.socket.send(encode(message, 1))
        return CONTROLLER_REPLIES.decode(split(self.socket.recv())[1])

    def pump(self, frames: list[bytes], window: int) -> None:
        """Sends all frames, so many under way at a time, and waits for all answers."""
        send, receive = self.socket.send, self.socket.recv
        for number, frame in enumerate(frames):
            if number >= window:
                receive()
            send(frame)
        for _ in range(min(window, len(frames))):
            receive()

    def close(self) -> None:
        """Closes the socket."""
        self._context.destroy(linger=0)


def joined(line: Line, name: str) -> int:
    """Registers a pretended instance; returns the controller's epoch."""
    reply = line.ask(register(name))
    assert isinstance(reply, Registered), reply
    return reply.epoch


def questions(blobs: list[bytes]) -> list[bytes]:
    """Returns a frame for each chain."""
    return [
        encode(Locate(namespace=NAMESPACE.id, keys=blob, key_bytes=KEY_BYTES), number + 1)
        for number, blob in enumerate(blobs)
    ]


def serve_filled(bind: str, num_instances: int, who: str) -> None:
    """Serves a directory of 10,000 chains, held by the ``last`` of the instances or by ``all``."""
    server = ControllerServer(ControllerSettings(bind=bind, log_level="ERROR"))
    core, blob = server.core, key_blob(NUM_CHAINS * CHAIN_KEYS)
    now_s = time.monotonic()
    for number in range(num_instances):
        name = instance_name(number)
        core.handle(_SENDER, register(name), now_s)
        last = number == num_instances - 1
        held = blob if last else key_blob(CHAIN_KEYS, seed=1000 + number)
        for batch in batches(name, core.epoch, held):
            core.handle(_SENDER, batch, now_s)
    if who == "all":
        (group,) = core._state.groups.values()
        _hold_everywhere(group.directory, sum(m.live.mask for m in group.members.values()), blob)
    print("ready", flush=True)
    server.serve()


def _hold_everywhere(directory: Directory, everybody: int, blob: bytes) -> None:
    """Admits the keys for all at once: what half a thousand million events would come to."""
    all_as_one = directory.open_holding()
    all_as_one.bits[TIER] = all_as_one.mask = everybody
    for batch in batches("", 0, blob):
        directory.apply(all_as_one, Changes("", batch.kinds, batch.keys, KEY_BYTES))


def echo(bind: str) -> None:
    """Sends every message back: what a bare blocking ROUTER does at most."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.bind(bind)
        print("ready", flush=True)
        while True:
            socket.send_multipart(socket.recv_multipart())


def beat(address: str, num_instances: int) -> None:
    """Sends every instance's heartbeat once a second, evenly spread, each with another load."""
    line, loads = Line(address), random.Random(SEED)  # noqa: S311
    epoch = joined(line, "drummer")
    hashes = []
    for number in range(num_instances):
        last = number == num_instances - 1
        num_keys, seed = (NUM_CHAINS * CHAIN_KEYS, SEED) if last else (CHAIN_KEYS, 1000 + number)
        sums = view_hashes(key_blob(num_keys, seed), KEY_BYTES, "", TIER).sum()
        hashes.append((num_keys, int(sums) & VIEW_HASH_MASK))
    print("ready", flush=True)
    start_s = time.perf_counter()
    for count in range(1 << 40):
        number = count % num_instances
        num_keys, view_hash = hashes[number]
        beat_of = Heartbeat(
            instance=instance_name(number),
            incarnation=1,
            epoch=epoch,
            last_seq=num_keys,
            view_hash=view_hash,
            load_bytes=loads.randrange(1 << 30),
        )
        line.ask(beat_of)
        time.sleep(max(0.0, start_s + count / num_instances - time.perf_counter()))


def ask_steadily(address: str, rate: str) -> None:
    """Asks at a fixed rate until stdin says so; prints the latencies in ms (open loop)."""
    line = Line(address)
    frames = questions(chain_blobs(200))
    poller = zmq.Poller()
    poller.register(line.socket, zmq.POLLIN)
    poller.register(sys.stdin.fileno(), zmq.POLLIN)
    gap_s, number, num_open, latencies = 1 / float(rate), 0, 0, list[float]()
    print("ready", flush=True)
    start_s, is_asking = time.perf_counter(), True
    while is_asking or num_open:
        now_s = time.perf_counter()
        while is_asking and now_s >= start_s + number * gap_s:
            body = frames[number % len(frames)][10:]
            line.socket.send(struct.pack(">HQ", 1, number + 1) + body)
            number, num_open = number + 1, num_open + 1
        wait_s = max(0.0, start_s + number * gap_s - now_s) if is_asking else 1.0
        ready = dict(poller.poll(wait_s * 1000))
        if line.socket in ready:
            asked = split(line.socket.recv())[0] - 1
            latencies.append(1e3 * (time.perf_counter() - start_s - asked * gap_s))
            num_open -= 1
        is_asking = is_asking and sys.stdin.fileno() not in ready
    print(" ".join(f"{latency:.3f}" for latency in latencies), flush=True)


@contextmanager
def running(role: str, *arguments: object) -> Iterator["subprocess.Popen[bytes]"]:
    """Runs a role in a process of its own, once it is ready."""
    command = [sys.executable, "-m", "tests.bench.directory_fleet", role, *map(str, arguments)]
    process = subprocess.Popen(
        command, env=harness.child_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()
        process.stdin.close()


def resident_bytes(pid: int) -> int:
    """Returns the resident memory of a process."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    if what == "serve":
        serve_filled(words[0], int(words[1]), words[2])
    elif what == "echo":
        echo(words[0])
    elif what == "beat":
        beat(words[0], int(words[1]))
    else:
        ask_steadily(words[0], words[1])
