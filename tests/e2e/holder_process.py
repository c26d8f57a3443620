"""An instance in a process of its own: stores chunks that everybody can compute, then serves.

Run as ``python holder_process.py CONTROLLER INSTANCE SEED NUM_CHUNKS CHANNEL``; prints one line
when the directory knows its chunks, and ends when its input closes.
"""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from p2p.backend import BackendConfig, P2PBackend
from p2p.keys import ChunkKey, Namespace, chunk_keys
from p2p.layout import Layout
from tests.e2e.controller_process import environment

LAYOUT = Layout(4, 2, 64, "bfloat16", block_tokens=16, chunk_tokens=64)  # 128 KiB a chunk
NAMESPACE = Namespace("test", "0" * 32, "bfloat16")
_START_S = 30.0


def keys_of(num_chunks: int) -> list[ChunkKey]:
    """Returns the keys of the prompt that all tests share."""
    return chunk_keys(range(num_chunks * LAYOUT.chunk_tokens), LAYOUT.chunk_tokens)


def content_of(seed: int, num_chunks: int) -> npt.NDArray[np.uint8]:
    """Returns the bytes that an instance of this seed stores."""
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (num_chunks, LAYOUT.chunk_bytes), dtype=np.uint8)


def start_backend(controller: str, instance: str, num_slots: int, **settings: str) -> P2PBackend:
    """Returns a running instance with room for so many chunks."""
    values = {"nixl_transports": tuple(settings.pop("transports", "").split())}
    config = BackendConfig(
        namespace=NAMESPACE,
        controller=controller,
        instance=instance,
        pool_bytes=num_slots * LAYOUT.chunk_bytes,
        nixl_transports=values["nixl_transports"],
        channel=settings.pop("channel", "nixl"),
        mirror=settings.pop("mirror", "") == "yes",
    )
    return P2PBackend.start(config, LAYOUT)


class HolderProcess:
    """A holder that runs until `end` or `kill`."""

    def __init__(
        self,
        controller: str,
        instance: str,
        seed: int,
        num_chunks: int,
        channel: str = "nixl",
    ) -> None:
        arguments = [controller, instance, str(seed), str(num_chunks), channel]
        self.process = subprocess.Popen(
            [sys.executable, __file__, *arguments],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], _START_S)
        line = self.process.stdout.readline() if readable else b""
        if line.strip() != b"ready":
            self.end()
            raise AssertionError(f"the holder said {line!r}")

    def kill(self) -> None:
        """SIGKILL, and waits until the process is gone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def end(self) -> None:
        """Ends the process and closes the pipes."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()


def main(controller: str, instance: str, seed: int, num_chunks: int, channel: str) -> None:
    """Stores, reports, serves."""
    with start_backend(controller, instance, num_chunks, channel=channel) as backend:
        backend.put(keys_of(num_chunks), content_of(seed, num_chunks))
        if not backend.wait_advertised(10):
            raise AssertionError("the directory did not take the chunks")
        os.write(1, b"ready\n")
        sys.stdin.buffer.read()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
