"""An instance in a process of its own that serves its share of a trace.

Run as ``python replay_process.py JSON`` with a `Share`. It says ``ready``, then answers each line,
the number of a request, with a `Served`. What a block must contain follows from its id.
"""

import json
import queue
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from p2p.backend import BackendConfig, P2PBackend, ShortReason
from p2p.keys import ChunkKey, Namespace
from p2p.layout import Layout
from tests.bench import harness
from tests.bench.trace import Request, read_trace

LAYOUT = Layout(1, 2, 64, "uint8", block_tokens=16, chunk_tokens=16)  # 4 KiB a chunk
NAMESPACE = Namespace("replay", "0" * 32, "uint8")
_BUDGET_S = 20.0
_ADVERTISED_S = 20.0
_WORDS = np.arange(LAYOUT.chunk_bytes // 8, dtype=np.uint64)
_ODD = np.uint64(0x9E3779B97F4A7C15)

Answers = queue.Queue[tuple[str, "Served | None"]]


@dataclass(frozen=True)
class Share:
    """What one instance is to do.

    Attributes:
        instance: its id.
        controller: address of the controller.
        trace: file of all requests.
        limit: so many of them count.
        num_slots: chunks that fit into its pool.
        keep: see `BackendConfig.keep`.
        is_patient: it answers when the directory knows what it has put.
    """

    instance: str
    controller: str
    trace: str
    limit: int
    num_slots: int
    keep: str
    is_patient: bool


@dataclass
class Served:
    """What became of a request.

    Attributes:
        request: its number; -1 in the first answer, which says that the instance is ready, and in
            the last one.
        num_found: leading blocks that were here or fetched, and are what they must be.
        num_local: how many of them were here.
        num_refused: blocks for which there was no room.
        wrong_bytes: delivered bytes that are not what they must be.
        reason: why not more blocks were found.
        seconds: that the fetch took.
        counters: of the backend, in the last answer.
    """

    request: int
    num_found: int = 0
    num_local: int = 0
    num_refused: int = 0
    wrong_bytes: int = 0
    reason: str = ""
    seconds: float = 0.0
    counters: dict[str, int] = field(default_factory=dict)


def key_of(block: int) -> ChunkKey:
    """Returns the key of a block."""
    return ChunkKey(block.to_bytes(16, "big"))


def content_of(request: Request) -> npt.NDArray[np.uint8]:
    """Returns the bytes of a request's blocks: each word of a block depends on its id."""
    ids = np.array(request, dtype=np.uint64)[:, None]
    words = (ids + np.uint64(1)) * _ODD ^ _WORDS * (ids * np.uint64(2) + np.uint64(1))
    return words.view(np.uint8).reshape(len(request), LAYOUT.chunk_bytes)


def serve(backend: P2PBackend, request: Request, number: int) -> Served:
    """Fetches what there is of a request, compares it, and puts the rest."""
    served = Served(number)
    if not request:
        return served
    keys, content = [key_of(block) for block in request], content_of(request)
    with backend.fetch(keys, budget_s=_BUDGET_S) as result:
        wrong = [int((c != w).sum()) for c, w in zip(result.chunks, content, strict=False)]
        served.wrong_bytes = sum(wrong)
        served.num_found = next((n for n, count in enumerate(wrong) if count), len(wrong))
        served.num_local = min(result.num_local, served.num_found)
        served.seconds = result.seconds
        is_complete = result.reason is ShortReason.COMPLETE
        served.reason = "" if is_complete else result.reason.value
        served.num_refused = backend.put(keys, content).num_refused
    return served


class ReplayProcess:
    """An instance that serves until `end`.

    Args:
        share: what it is to do.
        answers: where its answers go, with its name; None once it has ended.
    """

    def __init__(self, share: Share, answers: Answers) -> None:
        self.name = share.instance
        self.process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(asdict(share))],
            env=harness.child_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answers = answers
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def serve(self, number: int) -> None:
        """Hands a request over; the answer comes to the queue."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()

    def finish(self) -> None:
        """No more requests: the counters come to the queue, then the end."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def end(self) -> None:
        """Ends the process if it has not ended by itself."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self._listener.join(10)

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._answers.put((self.name, Served(**json.loads(line))))
        self._answers.put((self.name, None))


def main(share: Share) -> None:
    """Serves what comes in, one request at a time."""
    requests = read_trace(Path(share.trace), share.limit)
    config = BackendConfig(
        namespace=NAMESPACE,
        controller=share.controller,
        instance=share.instance,
        pool_bytes=share.num_slots * LAYOUT.chunk_bytes,
        channel="nixl",
        keep=share.keep,
    )
    with P2PBackend.start(config, LAYOUT) as backend:
        assert backend.wait_advertised(_ADVERTISED_S)
        _say(Served(-1))
        for line in iter(sys.stdin.readline, ""):
            served = serve(backend, requests[int(line)], int(line))
            assert not share.is_patient or backend.wait_advertised(_ADVERTISED_S)
            _say(served)
        _say(Served(-1, counters=dict(backend.counters())))


def _say(served: Served) -> None:
    print(json.dumps(asdict(served)), flush=True)


if __name__ == "__main__":
    main(Share(**json.loads(sys.argv[1])))
