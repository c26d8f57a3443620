"""An instance in a process on a `Host`, by default over NIXL's TCP transport, driven by JSON lines.

Run as ``python instance_process.py CONTROLLER INSTANCE ADDRESS NUM_CHUNKS WINDOW_BYTES CHANNEL``.
Orders name a prompt and its length in chunks; what a prompt holds, everybody can compute.
"""

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TypedDict

import msgspec
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from p2p.backend import BackendConfig, FetchResult, P2PBackend
from p2p.keys import ChunkKey, Namespace, chunk_keys
from p2p.layout import Layout
from tests.e2e.controller_process import environment
from tests.net.namespaces import Host

LAYOUT = Layout(8, 8, 64, "bfloat16", block_tokens=16, chunk_tokens=64)  # 1 MiB a chunk
NAMESPACE = Namespace("net", "0" * 32, "bfloat16")
PORT = 7601
_ANSWER_S = 60.0


class Order(TypedDict):
    """What an instance is to do: ``put``, ``fetch``, ``clear``, ``drain`` or ``end``."""

    do: str
    prompt: str
    num_chunks: int
    budget_s: float


class Fetched(TypedDict):
    """What a fetch brought.

    Attributes:
        seconds: from the call to the outcome.
        ended_s: when it was there, on the monotonic clock.
        num_chunks: of the verified prefix.
        num_equal: how many of them are, byte by byte, what was stored.
        reason: why there are not more.
        chunks_by_holder: what each holder contributed.
        channel_by_holder: over which channel and transport.
    """

    seconds: float
    ended_s: float
    num_chunks: int
    num_equal: int
    reason: str
    chunks_by_holder: dict[str, int]
    channel_by_holder: dict[str, str]


class Answer(TypedDict):
    """One line of an instance: ``done``, or ``half`` once half of a fetch has arrived."""

    event: str
    fetched: Fetched | None


class InstanceProcess:
    """An instance that runs until `end` or `kill`.

    Args:
        host: where.
        controller: its address.
        num_chunks: room in its pool.
        window_bytes: see `BackendConfig`; 0 leaves the default.
        channel: see `BackendConfig`; empty leaves the choice open.
    """

    def __init__(
        self,
        host: Host,
        controller: str,
        num_chunks: int,
        window_bytes: int = 0,
        channel: str = "nixl",
    ) -> None:
        words = [controller, host.name, host.address, str(num_chunks), str(window_bytes), channel]
        self.host = host
        self._heard = b""
        self.process = host.popen(
            [sys.executable, __file__, *words],
            env=environment(NIXL_LOG_LEVEL="ERROR"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.hear("done")

    def say(self, do: str, prompt: str = "", num_chunks: int = 0, budget_s: float = 20.0) -> None:
        """Gives an order."""
        assert self.process.stdin is not None
        order = Order(do=do, prompt=prompt, num_chunks=num_chunks, budget_s=budget_s)
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()

    def hear(self, event: str) -> Answer:
        """Returns the next answer that tells of an event; others are passed over."""
        while True:
            line = self._line()
            if not line:
                raise AssertionError(f"{self.host.name} said nothing about {event!r}")
            answer = msgspec.json.decode(line, type=Answer)
            if answer["event"] == event:
                return answer

    def _line(self) -> bytes:
        """Returns the next line; empty if there is none in time."""
        assert self.process.stdout is not None
        while b"\n" not in self._heard:
            readable, _, _ = select.select([self.process.stdout], [], [], _ANSWER_S)
            part = os.read(self.process.stdout.fileno(), 1 << 16) if readable else b""
            if not part:
                return b""
            self._heard += part
        line, _, self._heard = self._heard.partition(b"\n")
        return line

    def put(self, prompt: str, num_chunks: int) -> None:
        """Stores a prompt and waits until the directory knows it."""
        self.say("put", prompt, num_chunks)
        self.hear("done")

    def clear(self) -> None:
        """Drops every chunk and waits until the directory knows that."""
        self.say("clear")
        self.hear("done")

    def fetched(self) -> Fetched:
        """Waits for the end of a fetch that was ordered."""
        fetched = self.hear("done")["fetched"]
        assert fetched is not None
        return fetched

    def fetch(self, prompt: str, num_chunks: int, budget_s: float = 20.0) -> Fetched:
        """Fetches a prompt."""
        self.say("fetch", prompt, num_chunks, budget_s)
        return self.fetched()

    def kill(self) -> None:
        """SIGKILL, and waits until the process is gone."""
        self.process.kill()
        self.process.wait(10)

    def end(self) -> None:
        """Ends the process in order."""
        self.say("end")
        self.process.wait(10)


def keys_of(prompt: str, num_chunks: int) -> list[ChunkKey]:
    """Returns the keys of a prompt."""
    tokens = range(num_chunks * LAYOUT.chunk_tokens)
    return chunk_keys(tokens, LAYOUT.chunk_tokens, salt=prompt)


def content_of(prompt: str, num_chunks: int) -> npt.NDArray[np.uint8]:
    """Returns the bytes of a prompt's chunks."""
    random = np.random.default_rng(list(prompt.encode()))
    return random.integers(0, 256, (num_chunks, LAYOUT.chunk_bytes), dtype=np.uint8)


def start_controller(host: Host) -> str:
    """Starts a controller and returns its address once it answers."""
    address = f"tcp://{host.address}:7600"
    command = [sys.executable, "-m", "p2p_controller", "serve", "--bind", address]
    process = host.popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    process.stdout.readline()  # it says so when it is ready
    return address


class _Halves:
    """An observer that says when half of a fetch has arrived."""

    def __init__(self) -> None:
        self.is_said = False

    def on_phase(self, phase: str, num_arrived: int, num_chunks: int) -> None:
        """Called on the driving thread."""
        if phase == "mid_transfer" and 2 * num_arrived >= num_chunks and not self.is_said:
            self.is_said = True
            _tell("half")


def _tell(event: str, fetched: Fetched | None = None) -> None:
    print(json.dumps(Answer(event=event, fetched=fetched)), flush=True)


def _outcome(result: FetchResult, prompt: str, num_chunks: int) -> Fetched:
    ended_s = time.monotonic()
    stored = content_of(prompt, num_chunks)
    pairs = zip(result.chunks, stored, strict=False)
    return Fetched(
        seconds=result.seconds,
        ended_s=ended_s,
        num_chunks=result.num_chunks,
        num_equal=sum(bool(np.array_equal(chunk, content)) for chunk, content in pairs),
        reason=f"{result.reason.value} {result.detail}".strip(),
        chunks_by_holder={tally.instance: tally.num_chunks for tally in result.sources},
        channel_by_holder={
            source.instance: f"{source.channel}/{source.transport}" for source in result.sources
        },
    )


def _obey(backend: P2PBackend, halves: _Halves, order: Order) -> Fetched | None:
    prompt, num_chunks = order["prompt"], order["num_chunks"]
    if order["do"] == "fetch":
        halves.is_said = False
        with backend.fetch(keys_of(prompt, num_chunks), budget_s=order["budget_s"]) as result:
            return _outcome(result, prompt, num_chunks)
    if order["do"] == "put":
        backend.put(keys_of(prompt, num_chunks), content_of(prompt, num_chunks))
    elif order["do"] == "drain":
        backend.drain(order["budget_s"])
    elif order["do"] == "clear":
        backend.clear()
    if not backend.wait_advertised(20):
        raise AssertionError("the directory did not take what changed")
    return None


def main(words: list[str]) -> None:
    """Starts an instance and obeys until the end."""
    controller, instance, address, num_chunks, window_bytes, channel = words
    config = BackendConfig(
        namespace=NAMESPACE,
        controller=controller,
        instance=instance,
        bind=f"tcp://{address}:{PORT}",
        host=instance,
        pool_bytes=int(num_chunks) * LAYOUT.chunk_bytes,
        window_bytes=int(window_bytes) or BackendConfig(namespace=NAMESPACE).window_bytes,
        channel=channel,
        nixl_transports=("tcp",),
        nixl_net_devices=("eth0",),
    )
    halves = _Halves()
    with P2PBackend.start(config, LAYOUT, observer=halves) as backend:
        if not backend.wait_advertised(20):
            raise AssertionError("no controller")
        _tell("done")
        for line in sys.stdin:
            order = msgspec.json.decode(line, type=Order)
            if order["do"] == "end":
                break
            _tell("done", _obey(backend, halves, order))


if __name__ == "__main__":
    main(sys.argv[1:])
