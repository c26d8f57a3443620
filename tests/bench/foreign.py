"""What others do: Redis, and Mooncake's transfer engine, each as its own users drive it.

Neither is a dependency. Redis is a server's path here and the ``redis`` package of this Python;
Mooncake is the path of a Python of its own, which runs both sides and is told when to read.
"""

import importlib
import json
import subprocess
import sys
import time

import numpy as np

from tests.bench import harness

_MOONCAKE = """
import json, multiprocessing as mp, os, sys, time
import numpy as np
from mooncake.engine import TransferEngine

def engine(size):
    found = TransferEngine()
    assert found.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == 0
    buffer = np.ones(size, np.uint8)
    assert found.register_memory(buffer.ctypes.data, size) == 0
    return found, buffer

def hold(pipe, size):
    found, buffer = engine(size)
    buffer[:] = 7
    pipe.send((f"127.0.0.1:{found.get_rpc_port()}", buffer.ctypes.data))
    pipe.recv()
    os._exit(0)

def main():
    chunk, num = int(sys.argv[1]), int(sys.argv[2])
    ours, theirs = mp.get_context("spawn").Pipe()
    holder = mp.get_context("spawn").Process(target=hold, args=(theirs, chunk * num), daemon=True)
    holder.start()
    name, base = ours.recv()
    found, buffer = engine(chunk * num)
    local = [buffer.ctypes.data + i * chunk for i in range(num)]
    remote = [base + i * chunk for i in range(num)]
    read = lambda: found.batch_transfer_sync_read(name, local, remote, [chunk] * num)
    assert read() == 0 and buffer.min() == 7
    print("READY", flush=True)
    for _ in sys.stdin:
        before = time.perf_counter()
        assert read() == 0
        print("DONE", time.perf_counter() - before, flush=True)
    ours.send(None)
    os._exit(0)

if __name__ == "__main__":
    main()
"""


class Redis:
    """A server with all chunks as values, and a client that gets them.

    Args:
        program: the server's path.
        view: where chunks go.
        content: of all chunks.
        chunk_bytes: of one.
    """

    name = "redis"

    def __init__(
        self, program: str, view: np.ndarray, content: np.ndarray, chunk_bytes: int
    ) -> None:
        self._view = view
        self._chunk_bytes = chunk_bytes
        self._num = len(content) // chunk_bytes
        port = harness.free_port()
        words = ["--port", str(port), "--save", "", "--appendonly", "no"]
        self._server = subprocess.Popen([program, *words], stdout=subprocess.DEVNULL)
        self._client = importlib.import_module("redis").Redis(port=port)
        deadline_s = time.monotonic() + 10
        while True:
            try:
                self._client.ping()
                break
            except Exception:  # noqa: BLE001  the package is none of ours
                assert time.monotonic() < deadline_s
                time.sleep(0.05)
        for number in range(self._num):
            start = number * chunk_bytes
            self._client.set(str(number), content[start : start + chunk_bytes].tobytes())

    def read(self) -> None:
        """Gets every value, one by one, and puts it where it belongs."""
        size = self._chunk_bytes
        for number in range(self._num):
            value = self._client.get(str(number))
            self._view[number * size : (number + 1) * size] = np.frombuffer(value, np.uint8)

    def close(self) -> None:
        """Ends the server."""
        self._client.close()
        self._server.terminate()
        self._server.wait(10)


class Mooncake:
    """Two processes with Mooncake's engine, one of which reads when it is told to.

    Args:
        python: with the package.
        chunk_bytes: of one.
        num_chunks: of one read.
    """

    name = "mooncake"

    def __init__(self, python: str, chunk_bytes: int, num_chunks: int) -> None:
        program = harness.ROOT / "build" / "bench-mooncake.py"
        program.parent.mkdir(exist_ok=True)
        program.write_text(_MOONCAKE)
        self._process = subprocess.Popen(
            [python, str(program), str(chunk_bytes), str(num_chunks)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._expect("READY")

    def read(self) -> None:
        """Reads all chunks once."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self._expect("DONE")

    def close(self) -> None:
        """Ends both processes."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait(10)

    def _expect(self, word: str) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(word):
                return
        print(json.dumps({"mooncake": "has ended"}), file=sys.stderr)
        raise AssertionError("Mooncake's process has ended")
