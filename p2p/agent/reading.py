"""A reading agent: submits transfers over the region that the rank serves.

A rank has one that all peers share, and others on which transfers were given up, because only the
destruction of an agent stops a transfer for certain. Driven by whoever polls it.
"""

from dataclasses import dataclass

from p2p.agent.nixl_agent import Indexes, NixlAgent, Operation, Peering, Progress
from p2p.agent.nixl_config import NixlConfig
from p2p.agent.probe import Target
from p2p.agent.spans import spans
from p2p.errors import P2PError
from p2p.regions import Region

_MAX_IDLE_PEERS = 64


@dataclass(slots=True)
class _Loaded:
    """A peer's agent that is loaded: how many links use it, and whether it failed."""

    num_links: int = 0
    is_broken: bool = False


class ReadingAgent:
    """Submits reads into, and writes out of, one local region.

    Args:
        region: the local side of every transfer.
        config: settings of NIXL.

    Attributes:
        is_tainted: a transfer was given up on it while others shared it: they leave.
    """

    def __init__(self, region: Region, config: NixlConfig) -> None:
        self.is_tainted = False
        self._agent = NixlAgent("read", config, Progress.CALLER)
        self._agent.register(spans(region), region.kind, region.device)
        self._blocks = self._agent.prepare_local(region)
        self._loaded: dict[str, _Loaded] = {}

    def can_take(self, agent: str) -> bool:
        """Returns whether a peer's agent can be added: not while links to it are broken."""
        loaded = self._loaded.get(agent)
        return loaded is None or not loaded.is_broken

    def add_peer(self, target: Target, agent: str) -> Peering:
        """Connects to a peer that a probe has proven alive; reuses a connection that is there.

        Raises:
            PeerUnreachableError: it died since.
            ProtocolError: the metadata does not cover the region.
        """
        if agent not in self._loaded:
            self._agent.load_peer(target.peer, target.metadata)
            self._loaded[agent] = _Loaded()
        loaded = self._loaded[agent]
        loaded.num_links += 1
        try:
            return self._agent.open_peer(target.peer, agent, target.region)
        except P2PError:
            self._release(agent)
            raise

    def drop_peer(self, peering: Peering) -> None:
        """Ends a link with which nothing is in flight."""
        self._agent.close_peer(peering)
        self._release(peering.agent)

    def mark_broken(self, peering: Peering) -> None:
        """Notes that the connection failed: it is unloaded with its last link."""
        self._loaded[peering.agent].is_broken = True

    def _release(self, agent: str) -> None:
        """Lets go of a peer's agent. Whole connections are kept: unloading leaves sockets open."""
        loaded = self._loaded.pop(agent)
        loaded.num_links -= 1
        if loaded.num_links or not loaded.is_broken:
            self._loaded[agent] = loaded  # at the end: the idle longest come first
        else:
            self._agent.unload_peer(agent)
        idle = [name for name, other in self._loaded.items() if not other.num_links]
        for name in idle[:-_MAX_IDLE_PEERS]:
            del self._loaded[name]
            self._agent.unload_peer(name)

    def submit(
        self, operation: Operation, local: Indexes, peering: Peering, remote: Indexes
    ) -> int:
        """Starts a transfer; returns its handle, or 0 if it is complete already.

        Raises:
            LinkDownError: the peer is gone.
        """
        return self._agent.submit(operation, (self._blocks, local), peering, remote)

    def is_done(self, peering: Peering, handle: int) -> bool:
        """Makes progress; returns whether the transfer is complete and its handle released.

        Raises:
            LinkDownError: it failed and its handle is released.
        """
        return self._agent.is_done(peering, handle)

    def close(self) -> None:
        """Destroys the agent, and with it every transfer in flight. About 10 ms."""
        self._agent.close()
        self._loaded.clear()
