"""What HTTP costs the lookups: their rate with and without 50 status requests a second beside.

Rounds alternate. A second process keeps 64 lookups of a chain of 100 keys under way.
"""

import http.client
import json
import multiprocessing as mp
import statistics
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench.harness import arguments, child_environment, import_paths, paired, report

import_paths()

from p2p.keys import ChunkKey, Namespace, join_keys
from p2p.layout import Layout
from p2p.wire.context import WireContext
from p2p.wire.decoders import CONTROLLER_REPLIES
from p2p.wire.messages import ControllerReply, Events, Locate, Located, Register, Registered
from p2p.wire.requester import Requester

NAMESPACE = Namespace("bench", "0" * 32, "bfloat16")
LAYOUT = Layout(1, 1, 64, "bfloat16", block_tokens=16, chunk_tokens=16)
NUM_INSTANCES = 8
NUM_KEYS = 100
IN_FLIGHT = 64
HTTP_PER_S = 50.0
NUM_CONNECTIONS = 5
WAIT_S = 10.0


def fill(requester: Requester[ControllerReply]) -> Locate:
    """Registers the instances with the same chain; returns the question for it."""
    keys = [ChunkKey(number.to_bytes(32, "big")) for number in range(NUM_KEYS)]
    blob, key_bytes = join_keys(keys)
    for number in range(NUM_INSTANCES):
        name = f"i{number}"
        register = Register(
            instance=name,
            incarnation=1,
            namespace=NAMESPACE,
            layout=LAYOUT,
            address="tcp://127.0.0.1:7700",
        )
        registered = requester.request(register, WAIT_S)
        assert isinstance(registered, Registered)
        events = Events(
            instance=name,
            incarnation=1,
            epoch=registered.epoch,
            first_seq=1,
            kinds=b"\1" * NUM_KEYS,
            keys=blob,
            key_bytes=key_bytes,
        )
        requester.request(events, WAIT_S)
    return Locate(namespace=NAMESPACE.id, keys=blob, key_bytes=key_bytes)


def ask(controller: str, pipe: Connection) -> None:
    """The asking process: fills the directory, then measures a round for every time it is sent."""
    requester = Requester(WireContext(), controller, CONTROLLER_REPLIES)
    question = fill(requester)
    pipe.send(0.0)
    while (seconds := pipe.recv()) > 0:
        pipe.send(rate(requester, question, seconds))


def rate(requester: Requester[ControllerReply], question: Locate, seconds: float) -> float:
    """Returns lookups a second, each of which is a full hit."""
    num_done, num_open = 0, 0
    start_s = time.perf_counter()
    while (passed_s := time.perf_counter() - start_s) < seconds:
        while num_open < IN_FLIGHT:
            requester.send(question, requester.next_id())
            num_open += 1
        requester.socket.poll(1000)
        for answer in requester.receive():
            assert isinstance(answer.message, Located)
            assert answer.message.runs[0].count == NUM_KEYS
            num_done, num_open = num_done + 1, num_open - 1
    while num_open and requester.socket.poll(1000):
        num_open -= len(requester.receive())
    return num_done / passed_s


class Hammer:
    """Sends status requests at an even pace over five connections while it is on."""

    def __init__(self, url: str) -> None:
        self._place = url.removeprefix("http://")
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(NUM_CONNECTIONS)]
        self.times_s: list[float] = []
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends it."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection(self._place, timeout=WAIT_S)
        due_s = time.perf_counter()
        while not self._stop.wait(max(0.0, due_s - time.perf_counter())):
            start_s = time.perf_counter()
            connection.request("GET", "/v1/status")
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            self.times_s.append(time.perf_counter() - start_s)
            due_s += NUM_CONNECTIONS / HTTP_PER_S
        connection.close()


def measure(controller: str, url: str, num_rounds: int, seconds: float) -> dict[str, object]:
    """Returns the figures of alternating rounds."""
    ours, theirs = mp.get_context("spawn").Pipe()
    process = mp.get_context("spawn").Process(target=ask, args=(controller, theirs))
    process.start()
    ours.recv()
    quiet: list[float] = []
    busy: list[float] = []
    times_s: list[float] = []
    for _ in range(num_rounds):
        ours.send(seconds)
        quiet.append(ours.recv())
        hammer = Hammer(url)
        ours.send(seconds)
        busy.append(ours.recv())
        hammer.stop()
        times_s += hammer.times_s
    ours.send(0.0)
    process.join(WAIT_S)
    return {
        "lookups_per_s_quiet": round(statistics.median(quiet)),
        "lookups_per_s_with_http": round(statistics.median(busy)),
        "lookups_with_http_to_quiet": round(statistics.median(paired(busy, quiet)), 3),
        "http_per_s": round(len(times_s) / (num_rounds * seconds), 1),
        "http_median_ms": round(statistics.median(times_s) * 1000, 2),
        "rounds": num_rounds,
    }


def main() -> None:
    """Runs and prints."""
    options = arguments(__doc__ or "")
    command = [sys.executable, "-m", "p2p_controller", "serve", "--json", "--http", "127.0.0.1:*"]
    lasting = ["--set", "silent_after_s=3600", "--set", "forget_after_s=3600"]
    process = subprocess.Popen(
        [*command, "--bind", "tcp://127.0.0.1:*", *lasting],
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        ready = json.loads(process.stdout.readline())
        figures = measure(ready["address"], ready["http"], 15 if options.full else 7, 1.0)
    finally:
        process.terminate()
        process.wait(WAIT_S)
        process.stdout.close()
    report(figures, options)


if __name__ == "__main__":
    main()
