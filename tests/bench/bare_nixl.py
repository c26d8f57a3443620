"""NIXL by itself, as its own users drive it: what the fabric's transfers are measured against.

The best one-thread configuration: the reader without a progress thread; the holder with one whose
delay is mended, since NIXL's default spins on a whole core and polling every 0.5 ms would disturb
what else runs in the holder's process. And, as ``threads``, worker threads that post for the reader
(``num_threads``, ``split_batch_size``).
"""

import mmap
from dataclasses import dataclass

import nixl_cu13._api as nixl  # the plain Python API
import nixl_cu13._bindings as bindings
import numpy as np

from p2p.agent.memory import HostArena

_DELAY_US = 10_000


class _MendedConfig(bindings.nixlAgentConfig):
    """The configuration whose progress thread sleeps between looks, instead of spinning."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, _DELAY_US if name == "pthrDelay" and value == 0 else value)


bindings.nixlAgentConfig = _MendedConfig


def _memory(size: int, huge: bool) -> np.ndarray:
    """Returns memory as allocators give it, or in huge pages, as the fabric's pools lie."""
    if huge:
        return HostArena(size).view(0, size)
    memory = np.frombuffer(mmap.mmap(-1, size), np.uint8)
    memory[:] = 1  # touched
    return memory


@dataclass(frozen=True)
class Remote:
    """What the reader needs of the holder: picklable."""

    metadata: bytes
    address: int
    num_blocks: int
    block_bytes: int


class BareAgent:
    """One agent over one buffer of equal blocks."""

    def __init__(
        self,
        name: str,
        num_blocks: int,
        block_bytes: int,
        threads: int = 0,
        serves: bool = False,
        huge: bool = False,
        *,
        transports: str = "",
    ) -> None:
        size = num_blocks * block_bytes
        self.buffer = _memory(size, huge)
        self.num_blocks = num_blocks
        self.block_bytes = block_bytes
        config = nixl.nixl_agent_config(enable_prog_thread=serves, backends=[])
        self.agent = nixl.nixl_agent(name, config)
        options = {"num_threads": str(threads), "split_batch_size": "1"} if threads else {}
        if transports:
            options["engine_config"] = f"TLS={transports}"
        self.agent.create_backend("UCX", options)
        self.agent.register_memory([(self.address, size, 0, "")], "DRAM")
        self._remote: object = None

    @property
    def address(self) -> int:
        """Address of the buffer."""
        return int(self.buffer.ctypes.data)

    def remote(self) -> Remote:
        """Returns what a reader needs."""
        metadata = self.agent.get_agent_metadata()
        return Remote(metadata, self.address, self.num_blocks, self.block_bytes)

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

    def _prepare(self, agent: str, base: int) -> object:
        rows = np.array(
            [[base + i * self.block_bytes, self.block_bytes, 0] for i in range(self.num_blocks)],
            dtype=np.uint64,
        )
        return self.agent.prep_xfer_dlist(agent, rows, "DRAM")
