"""NIXL by itself, as its own users drive it: what the fabric's transfers are measured against.

The best one-thread configuration: progress threads off, the holder polling every 0.5 ms; and, as
``threads``, worker threads that post for it (``num_threads``, ``split_batch_size``).
"""

import mmap
import threading
from dataclasses import dataclass

import numpy as np
import nixl_cu13._api as nixl  # the plain Python API

_POLL_S = 0.0005


@dataclass(frozen=True)
class Remote:
    """What the reader needs of the holder: picklable."""

    metadata: bytes
    address: int
    num_blocks: int
    block_bytes: int


class BareAgent:
    """One agent over one buffer of equal blocks."""

    def __init__(self, name: str, num_blocks: int, block_bytes: int, threads: int = 0) -> None:
        size = num_blocks * block_bytes
        self._mapping = mmap.mmap(-1, size)
        self.buffer = np.frombuffer(self._mapping, np.uint8)
        self.buffer[:] = 1  # touched
        self.num_blocks = num_blocks
        self.block_bytes = block_bytes
        config = nixl.nixl_agent_config(enable_prog_thread=False, backends=[])
        self.agent = nixl.nixl_agent(name, config)
        options = {"num_threads": str(threads), "split_batch_size": "1"} if threads else {}
        self.agent.create_backend("UCX", options)
        self.agent.register_memory([(self.address, size, 0, "")], "DRAM")
        self._stop = threading.Event()
        self._server: threading.Thread | None = None
        self._remote: object = None

    @property
    def address(self) -> int:
        """Address of the buffer."""
        return int(self.buffer.ctypes.data)

    def remote(self) -> Remote:
        """Returns what a reader needs."""
        metadata = self.agent.get_agent_metadata()
        return Remote(metadata, self.address, self.num_blocks, self.block_bytes)

    def serve(self) -> None:
        """Polls in a thread, so that peers can connect."""

        def poll() -> None:
            while not self._stop.wait(_POLL_S):
                self.agent.get_new_notifs()

        self._server = threading.Thread(target=poll, daemon=True)
        self._server.start()

    def connect(self, remote: Remote) -> None:
        """Prepares descriptor lists for a holder's blocks and ours."""
        name = self.agent.add_remote_agent(remote.metadata)
        name = name.decode() if isinstance(name, bytes) else name
        self._local = self._prepare("", self.address)
        self._remote = self._prepare(name, remote.address)

    def read(self, blocks: np.ndarray) -> None:
        """Reads blocks onto the same blocks here and returns when they are there."""
        handle = self.agent.make_prepped_xfer(
            "READ", self._local, blocks, self._remote, blocks, b""
        )
        state = self.agent.transfer(handle)
        while state == "PROC":
            state = self.agent.check_xfer_state(handle)
        assert state == "DONE", state
        self.agent.release_xfer_handle(handle)

    def stop(self) -> None:
        """Ends the polling thread."""
        self._stop.set()
        if self._server is not None:
            self._server.join()

    def _prepare(self, agent: str, base: int) -> object:
        rows = np.array(
            [[base + i * self.block_bytes, self.block_bytes, 0] for i in range(self.num_blocks)],
            dtype=np.uint64,
        )
        return self.agent.prep_xfer_dlist(agent, rows, "DRAM")
