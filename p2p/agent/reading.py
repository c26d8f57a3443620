"""A reading agent: submits transfers over the region that the rank serves.

A rank has one that all peers share, and one of its own for every peer that misbehaved, because
only the destruction of an agent stops a transfer for certain. Driven by whoever polls it.
"""

from p2p.agent.nixl_agent import Indexes, NixlAgent, Operation, Peering, Progress
from p2p.agent.nixl_config import NixlConfig
from p2p.agent.probe import Target
from p2p.agent.spans import spans
from p2p.regions import Region


class ReadingAgent:
    """Submits reads into, and writes out of, one local region.

    Args:
        region: the local side of every transfer.
        config: settings of NIXL.
    """

    def __init__(self, region: Region, config: NixlConfig) -> None:
        self._agent = NixlAgent("read", config, Progress.CALLER)
        self._agent.register(spans(region), region.kind, region.device)
        self._blocks = self._agent.prepare_local(region)
        self._peers: set[str] = set()

    def knows(self, agent: str) -> bool:
        """Returns whether a peer's agent is loaded: it must not be loaded twice."""
        return agent in self._peers

    def add_peer(self, target: Target) -> Peering:
        """Connects to a peer that a probe has proven alive.

        Raises:
            PeerUnreachableError: it died since.
            ProtocolError: the metadata does not cover the region.
        """
        peering = self._agent.add_peer(target.peer, target.metadata, target.region)
        self._peers.add(peering.agent)
        return peering

    def remove_peer(self, peering: Peering) -> None:
        """Disconnects from a peer with which nothing is in flight."""
        self._agent.remove_peer(peering)
        self._peers.discard(peering.agent)

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
        self._peers.clear()
