"""One NIXL agent: memory registered, peers added, transfers submitted and polled.

Nothing is released behind the caller's back, and nothing waits. Destroying the agent is the only
way to make sure that an unfinished transfer does not touch memory any more. Not thread-safe; a
second thread inside is found out and refused.
"""

import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from p2p.agent.nixl_config import UCX, NixlConfig
from p2p.agent.nixl_gate import Doing, Gate, Occupancy
from p2p.agent.nixl_library import environment, nixl_library
from p2p.errors import PluginMissingError
from p2p.regions import MemoryKind, Region

Indexes = npt.NDArray[np.int32]


class Progress(Enum):
    """Who drives an agent's connections."""

    THREAD = "thread"
    CALLER = "caller"


class Trace(Enum):
    """Whether UCX tells which transport an agent's transfers use; it costs log lines."""

    NOTHING = "nothing"
    TRANSPORT = "transport"


class Operation(Enum):
    """Direction of a one-sided transfer, seen from who submits it."""

    READ = "READ"
    WRITE = "WRITE"


@dataclass(frozen=True, slots=True)
class Peering:
    """What an agent holds of one peer.

    Attributes:
        peer: the peer's name in our words.
        agent: the name of the peer's agent.
        blocks: handle of the peer's prepared descriptors.
        gate: entered around every call that concerns the peer.
    """

    peer: str
    agent: str
    blocks: int
    gate: Gate


class NixlAgent:
    """An agent under a name that no agent had before.

    Args:
        role: a word that tells agents apart in logs.
        config: transports, devices, time limits.
        progress: who drives its connections; a serving agent needs a thread.
        trace: whether `take_transport` will be asked.

    Raises:
        PluginMissingError: NIXL or its plugin is not installed, or it does not start.
    """

    def __init__(
        self,
        role: str,
        config: NixlConfig,
        progress: Progress,
        trace: Trace = Trace.NOTHING,
    ) -> None:
        self._library = nixl_library()
        self.name = f"{role[:8]}-{uuid.uuid4().hex[:20]}"  # UCX cuts names at 31 characters
        self._occupancy = Occupancy(self.name)
        settings = self._library.bindings.nixlAgentConfig()
        settings.useProgThread = progress is Progress.THREAD
        settings.useListenThread = False
        settings.pthrDelay = config.wakeup_ms * 1000
        settings.syncMode = self._library.bindings.NIXL_THREAD_SYNC_NONE
        settings.captureTelemetry = False
        options = config.ucx_options()
        if trace is Trace.TRANSPORT and self._library.log.is_attached():
            options["PROTO_INFO"] = "y"
        variables = {f"UCX_{name}": value for name, value in options.items() if "," in value}
        variables |= self._library.start_variables()
        with self._gate(Doing.START, f"NIXL plugin {config.plugin}"), environment(variables):
            self._raw = self._library.bindings.nixlAgent(self.name, settings)
            self._start_plugin(config, options)
        self._kinds = {
            MemoryKind.DRAM: self._library.bindings.DRAM_SEG,
            MemoryKind.VRAM: self._library.bindings.VRAM_SEG,
        }
        self._read = self._library.bindings.NIXL_READ
        self._write = self._library.bindings.NIXL_WRITE
        self._done = self._library.bindings.NIXL_SUCCESS

    def _start_plugin(self, config: NixlConfig, options: dict[str, str]) -> None:
        plugins = self._raw.getAvailPlugins()
        if config.plugin not in plugins:
            raise PluginMissingError(f"NIXL has no plugin {config.plugin}, only {sorted(plugins)}")
        parameters = config.plugin_options()
        if config.plugin == UCX:
            single = (f"{name}={value}" for name, value in options.items() if "," not in value)
            parameters["engine_config"] = ",".join(single)
        self._raw.createBackend(config.plugin, parameters)

    def register(self, spans: Sequence[tuple[int, int]], kind: MemoryKind, device: int) -> None:
        """Registers spans of memory, given as address and length. The caller keeps them mapped.

        Raises:
            MemoryUnavailableError: the transport refuses the memory.
        """
        subject = f"{kind.value} memory of {sum(length for _, length in spans)} bytes"
        with self._gate(Doing.REGISTER, subject):
            descriptors = self._library.bindings.nixlRegDList(
                self._kinds[kind], [(address, length, device, "") for address, length in spans]
            )
            self._raw.registerMem(descriptors, [])

    def metadata(self) -> bytes:
        """Returns what a peer needs to reach this agent's memory. Takes the interpreter lock."""
        with self._gate(Doing.REGISTER, "metadata"):
            return bytes(self._raw.getLocalMD())

    def prepare_local(self, region: Region) -> int:
        """Returns the handle of our own blocks' descriptors, for as long as the agent lives."""
        return self._prepare(self._library.bindings.NIXL_INIT_AGENT, "our region", region)

    def load_peer(self, peer: str, metadata: bytes) -> str:
        """Loads a peer's metadata and returns its agent's name. May block: see `probe`.

        Raises:
            PeerUnreachableError: nobody listens there.
            ProtocolError: the metadata is not NIXL's.
        """
        with self._gate(Doing.CONNECT, peer):
            name = self._raw.loadRemoteMD(metadata)
        return name.decode() if isinstance(name, bytes) else str(name)

    def unload_peer(self, agent: str) -> None:
        """Forgets a peer's agent. Only after all transfers with it have quiesced.

        The sockets to a living agent stay open until this agent is closed.
        """
        with self._gate(Doing.CONNECT, agent), suppress(*self._library.errors):
            self._raw.invalidateRemoteMD(agent)

    def open_peer(self, peer: str, agent: str, region: Region) -> Peering:
        """Prepares the blocks of a loaded peer.

        Raises:
            ProtocolError: the region lies outside of the memory that the metadata describes.
        """
        blocks = self._prepare(agent, peer, region)
        return Peering(peer, agent, blocks, self._gate(Doing.TRANSFER, peer))

    def close_peer(self, peering: Peering) -> None:
        """Gives the peer's descriptors back. Only after its transfers have quiesced."""
        with peering.gate, suppress(*self._library.errors):
            self._raw.releasedDlistH(peering.blocks)

    def submit(
        self,
        operation: Operation,
        local: tuple[int, Indexes],
        peering: Peering,
        remote_indexes: Indexes,
    ) -> int:
        """Starts a transfer between our blocks (handle, indexes) and a peer's.

        Returns:
            The transfer's handle, or 0 if it is complete already.

        Raises:
            LinkDownError: the peer is gone.
        """
        raw = self._raw
        direction = self._read if operation is Operation.READ else self._write
        with peering.gate:
            handle: int = raw.makeXferReq(direction, *local, peering.blocks, remote_indexes)
            try:
                is_done = raw.postXferReq(handle) == self._done
            except self._library.errors:
                self._release(handle)
                raise
            if not is_done:
                return handle
            raw.releaseXferReq(handle)
        return 0

    def is_done(self, peering: Peering, handle: int) -> bool:
        """Makes progress and returns whether a transfer is complete; its handle is then released.

        Raises:
            LinkDownError: it failed; its handle is released.
        """
        raw = self._raw
        with peering.gate:
            try:
                if raw.getXferStatus(handle) != self._done:
                    return False
            except self._library.errors:
                self._release(handle)
                raise
            raw.releaseXferReq(handle)
        return True

    def take_transport(self) -> str:
        """Returns what moved this agent's first reads; needs `Trace.TRANSPORT`."""
        return self._library.log.take_transport(self.name)

    def close(self) -> None:
        """Destroys the agent: from now on it touches no memory. About 10 ms. Idempotent."""
        if self._occupancy.is_closed:
            return
        with self._gate(Doing.START, self.name):
            self._raw = None
            self._occupancy.is_closed = True

    def _prepare(self, agent: str, subject: str, region: Region) -> int:
        with self._gate(Doing.PREPARE, subject):
            kind = self._kinds[region.kind]
            return int(self._raw.prepXferDlist(agent, kind, _strided(region), []))

    def _release(self, handle: int) -> None:
        with suppress(*self._library.errors):
            self._raw.releaseXferReq(handle)

    def _gate(self, doing: Doing, subject: str) -> Gate:
        return Gate(self._occupancy, self._library.errors, doing, subject)


def _strided(region: Region) -> npt.NDArray[np.uint64]:
    """Returns one row per segment: address, length, device, stride, count."""
    return np.array(
        [
            (segment.base, segment.length, region.device, segment.stride, region.count)
            for segment in region.segments
        ],
        dtype=np.uint64,
    )
