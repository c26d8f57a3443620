"""An instance in a process of its own that takes orders, one JSON object a line, and answers so.

Run as ``python -m tests.fault.peer_process SETTINGS``. A fetch can be made to stop at a phase: the
process says so and stops itself, and goes on after SIGCONT with its next line of input.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from p2p.agent.drain import DRAIN
from p2p.backend import BackendConfig, P2PBackend
from p2p.keys import ChunkKey, chunk_keys
from tests.e2e.holder_process import LAYOUT, NAMESPACE, content_of, keys_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from p2p.backend import FetchResult

NUM_CHUNKS = 256  # 32 MiB: two holders serve, and lanes read windows above 512 KiB
_ADVERTISED_S = 10.0
_OTHER_PROMPT = 1 << 20  # its first token; far from those of the prompt that all share


class PeerSettings(msgspec.Struct, frozen=True):
    """What a peer process is started with.

    Attributes:
        controller: its address.
        instance: the id.
        host: the label by which peers judge nearness.
        seeds: of the contents that a delivered chunk may have.
        bind: where it answers peers.
        transports: of UCX.
        devices: network devices of UCX.
        num_slots: of the pool.
        quarantine_s: as in `BackendConfig`.
        channel: as in `BackendConfig`.
    """

    controller: str
    instance: str
    host: str
    seeds: tuple[int, ...] = (1, 2)
    bind: str = "tcp://127.0.0.1:*"
    transports: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    num_slots: int = NUM_CHUNKS
    quarantine_s: float = 1.0
    channel: str = "nixl"

    def start(self, observer: "Gate") -> P2PBackend:
        """Returns the running instance."""
        config = BackendConfig(
            namespace=NAMESPACE,
            controller=self.controller,
            instance=self.instance,
            bind=self.bind,
            pool_bytes=self.num_slots * LAYOUT.chunk_bytes,
            quarantine_s=self.quarantine_s,
            channel=self.channel,
            host=self.host,
            rack=self.host,
            nixl_transports=self.transports,
            nixl_net_devices=self.devices,
            links_ahead=0,  # faults are to meet first contacts, too
        )
        return P2PBackend.start(config, LAYOUT, observer)


class Order(msgspec.Struct, frozen=True):
    """One line of input.

    Attributes:
        do: which.
        num: chunks.
        seed: of a content.
        budget_s: of a fetch.
        phase: of a fetch, to stop at; empty for none.
    """

    do: str
    num: int = 0
    seed: int = 0
    budget_s: float = 2.0
    phase: str = ""


def other_keys(num_chunks: int) -> list[ChunkKey]:
    """Returns the keys of a prompt that no holder has."""
    tokens = range(_OTHER_PROMPT, _OTHER_PROMPT + num_chunks * LAYOUT.chunk_tokens)
    return chunk_keys(tokens, LAYOUT.chunk_tokens)


def say(**answer: object) -> None:
    """Writes one line, at once."""
    os.write(1, json.dumps(answer).encode() + b"\n")


class Gate:
    """Stops the process when a fetch is at a phase; after SIGCONT the fetch waits for a line.

    Attributes:
        go_s: when it went on, in seconds on the monotonic clock; 0 if it was not stopped.
    """

    def __init__(self) -> None:
        self.go_s = 0.0
        self._phase = ""
        self._lock = threading.Lock()

    def arm(self, phase: str) -> None:
        """Will stop at a phase once; at none if it is empty."""
        self.go_s = 0.0
        self.disarm()
        self._phase = phase

    def disarm(self) -> None:
        """Stops nowhere."""
        with self._lock:
            self._phase = ""

    def on_phase(self, phase: str, num_arrived: int, num_chunks: int) -> None:
        """Stops, in the middle of a transfer once a quarter has arrived."""
        if phase != self._phase or (phase == "mid_transfer" and num_arrived * 4 < num_chunks):
            return
        with self._lock:
            if phase != self._phase:
                return
            self._phase = ""
            say(at=phase, num_arrived=num_arrived)
            os.kill(os.getpid(), signal.SIGSTOP)  # lanes would go on reading
            sys.stdin.readline()
            self.go_s = time.monotonic()


class Peer:
    """Carries out orders.

    Args:
        settings: of this process.
        gate: watches the backend's fetches.
        backend: running.
    """

    def __init__(self, settings: PeerSettings, gate: Gate, backend: P2PBackend) -> None:
        self._gate = gate
        self._backend = backend
        self._keys = keys_of(NUM_CHUNKS)
        self._contents = [content_of(seed, NUM_CHUNKS) for seed in settings.seeds]
        self._kept: FetchResult | None = None
        self._others: npt.NDArray[np.uint8] = np.empty((0, LAYOUT.chunk_bytes), np.uint8)
        self._orders: dict[str, Callable[[Order], dict[str, object]]] = {
            "put": self._put,
            "fetch": self._fetch,
            "miss": self._miss,
            "recheck": self._recheck,
            "release": self._release,
            "clear": lambda _: {"num": self._backend.clear()},
            "counters": self._counters,
            "flip": self._flip,
            "own": self._own,
            "fill": self._fill,
            "filled": self._filled,
        }

    def obey(self, line: str) -> None:
        """Carries one order out and answers."""
        order = msgspec.json.decode(line, type=Order)
        say(**self._orders[order.do](order))

    # ------------------------------------------------------------------ the prompt that all share

    def _put(self, order: Order) -> dict[str, object]:
        report = self._backend.put(self._keys[: order.num], content_of(order.seed, order.num))
        return {
            "num": report.num_stored + report.num_present,
            "is_advertised": self._backend.wait_advertised(_ADVERTISED_S),
        }

    def _fetch(self, order: Order) -> dict[str, object]:
        self._gate.arm(order.phase)
        started_s = time.monotonic()
        result = self._backend.fetch(self._keys[: order.num], budget_s=order.budget_s)
        ended_s = time.monotonic()
        self._gate.disarm()
        self._kept = result
        return {
            "num": result.num_chunks,
            "num_given": len(result.chunks),
            "num_local": result.num_local,
            "reason": result.reason.value,
            "detail": result.detail,
            "seconds": ended_s - started_s,
            "go_s": self._gate.go_s - started_s if self._gate.go_s else 0.0,
            "sources": {source.instance: source.num_chunks for source in result.sources},
            "transports": sorted({source.transport for source in result.sources}),
            "wrong": self._wrong(result.chunks),
        }

    def _miss(self, order: Order) -> dict[str, object]:
        """Fetches what nobody holds: the guess that somebody does was wrong."""
        with self._backend.fetch(other_keys(1), budget_s=order.budget_s) as result:
            return {"num": result.num_chunks}

    def _recheck(self, _: Order) -> dict[str, object]:
        return {"wrong": self._wrong(self._kept.chunks) if self._kept else []}

    def _release(self, _: Order) -> dict[str, object]:
        if self._kept is not None:
            self._kept.release()
            self._kept = None
        return {}

    def _wrong(self, chunks: Sequence[npt.NDArray[np.uint8]]) -> list[int]:
        """Returns the positions of chunks that are not, whole, one of the contents."""
        return [
            number
            for number, chunk in enumerate(chunks)
            if not any(np.array_equal(chunk, content[number]) for content in self._contents)
        ]

    # ------------------------------------------------------------------ the pool

    def _flip(self, _: Order) -> dict[str, object]:
        """Flips one byte of every chunk in the pool, where readers read it."""
        backend, num_flipped = self._backend, 0
        for key in self._keys:
            entry = backend._core.index.get(key)
            if entry is not None:
                backend._pool.view(entry.slot)[(entry.slot * 4099) % LAYOUT.chunk_bytes] ^= 0x10
                num_flipped += 1
        return {"num": num_flipped}

    def _own(self, _: Order) -> dict[str, object]:
        """Compares what lies in the own pool; the wrong positions."""
        index, wrong, num = self._backend._core.index, [], 0
        for number, key in enumerate(self._keys):
            entry = index.get(key)
            if entry is not None:
                num += 1
                chunk = self._backend._pool.view(entry.slot)
                if not any(np.array_equal(chunk, content[number]) for content in self._contents):
                    wrong.append(number)
        return {"num": num, "wrong": wrong}

    def _fill(self, order: Order) -> dict[str, object]:
        """Reuses slots: stores another prompt in whatever is free."""
        self._others = content_of(order.seed, order.num)
        report = self._backend.put(other_keys(order.num), self._others)
        return {"num": report.num_stored, "num_refused": report.num_refused}

    def _filled(self, _: Order) -> dict[str, object]:
        """Compares what `fill` stored."""
        wrong, num = [], 0
        for number, key in enumerate(other_keys(len(self._others))):
            entry = self._backend._core.index.get(key)
            if entry is not None:
                num += 1
                if not np.array_equal(self._backend._pool.view(entry.slot), self._others[number]):
                    wrong.append(number)
        return {"num": num, "wrong": wrong}

    def _counters(self, _: Order) -> dict[str, object]:
        return {"drained_bytes": DRAIN.num_bytes, **self._backend.counters()}


def main(text: str) -> None:
    """Starts, says so, and takes orders until the input ends."""
    settings = msgspec.json.decode(text, type=PeerSettings)
    gate = Gate()
    with settings.start(gate) as backend:
        peer = Peer(settings, gate, backend)
        say(ready=backend.wait_advertised(_ADVERTISED_S))
        for line in iter(sys.stdin.readline, ""):
            peer.obey(line)


if __name__ == "__main__":
    main(sys.argv[1])
