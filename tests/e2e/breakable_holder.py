"""A holder in a process of its own whose `shm` channel a test breaks and heals while it runs.

Run as ``python breakable_holder.py CONTROLLER NUM_PROMPTS NUM_CHUNKS``; takes lines ``break`` and
``heal``, says ``done`` after each, and ends when its input closes.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from p2p.backend import BackendConfig, P2PBackend
from p2p.channel.base import ChannelName
from p2p.channel.shm import ShmChannel, serving
from p2p.keys import ChunkKey, chunk_keys
from tests.e2e.controller_process import environment
from tests.e2e.holder_process import LAYOUT, NAMESPACE, content_of

_MANY = serving._MAX_READERS


def prompt_keys(prompt: int, num_chunks: int) -> list[ChunkKey]:
    """Returns the keys of one of the holder's prompts."""
    first = prompt * 1_000_000
    return chunk_keys(range(first, first + num_chunks * LAYOUT.chunk_tokens), LAYOUT.chunk_tokens)


class BreakableHolder:
    """The process, as a test sees it."""

    def __init__(self, controller: str, num_prompts: int, num_chunks: int) -> None:
        words = [controller, str(num_prompts), str(num_chunks)]
        self.process = subprocess.Popen(
            [sys.executable, __file__, *words],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._hear()

    def break_shm(self) -> None:
        """Ends every reader's connection, and takes no new one."""
        self._say("break")

    def heal_shm(self) -> None:
        """Takes readers again."""
        self._say("heal")

    def _say(self, order: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        self._hear()

    def _hear(self) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == "done\n", line

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def _obey(order: str, backend: P2PBackend) -> None:
    channel = backend._channels._by_name[ChannelName("shm")]
    assert isinstance(channel, ShmChannel)
    server = channel._shared.server
    assert server is not None
    serving._MAX_READERS = 0 if order == "break" else _MANY
    if order == "break":
        for connection in list(server._readers):
            connection.shutdown(socket.SHUT_RDWR)


def main(controller: str, num_prompts: int, num_chunks: int) -> None:
    """Stores, reports, serves."""
    config = BackendConfig(
        namespace=NAMESPACE,
        controller=controller,
        instance="holder",
        pool_bytes=num_prompts * num_chunks * LAYOUT.chunk_bytes,
    )
    with P2PBackend.start(config, LAYOUT) as backend:
        for prompt in range(num_prompts):
            backend.put(prompt_keys(prompt, num_chunks), content_of(prompt, num_chunks))
        assert backend.wait_advertised(10)
        os.write(1, b"done\n")
        for line in sys.stdin:
            _obey(line.strip(), backend)
            os.write(1, b"done\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
