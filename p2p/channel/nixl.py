"""The `nixl` channel: RDMA, NVLink, same-host copies, TCP, through NIXL.

One serving agent for the channel's life, one shared reading agent, and a reading agent of its own
for each peer with which a transfer was given up: NIXL cannot cancel, and only the destruction of
an agent stops what is in flight.
"""

import logging
from dataclasses import dataclass

from p2p.agent.nixl_config import NixlConfig
from p2p.agent.probe import Proof, Target, probe
from p2p.agent.reading import ReadingAgent
from p2p.agent.serving import ServingAgent
from p2p.channel.base import ChannelName, ChannelOffer, Dialled
from p2p.channel.fit import check_fit
from p2p.channel.nixl_link import NixlLink
from p2p.errors import ArgumentError, ClosedError, P2PError
from p2p.regions import Region

_LOGGER = logging.getLogger(__name__)
_MAX_PIECES = (1 << 31) - 1
NIXL = ChannelName("nixl")


@dataclass(frozen=True, slots=True)
class NixlDialled:
    """A peer that a throw-away agent has proven alive."""

    target: Target
    proof: Proof

    @property
    def peer(self) -> str:
        """The peer's name in our words."""
        return self.target.peer


class NixlChannel:
    """A rank's region, served and connected through NIXL; implements `p2p.channel.base.Channel`.

    Args:
        region: served to peers, and the local side of every transfer. The caller keeps its
            memory mapped until the process ends.
        config: settings of NIXL.
        serving: the agent of a sibling that serves the region already.

    Raises:
        PluginMissingError: NIXL is not installed or does not start.
        MemoryUnavailableError: the memory cannot be registered.
        ArgumentError: the region contradicts itself or has too many blocks.
    """

    def __init__(
        self,
        region: Region,
        config: NixlConfig | None = None,
        serving: ServingAgent | None = None,
    ) -> None:
        region.check()
        if region.count * len(region.segments) > _MAX_PIECES:
            raise ArgumentError("region.count", region.count, "too many blocks for 32-bit indexes")
        self._region = region
        self._config = config or NixlConfig()
        self._is_sibling = serving is not None
        self._serving = serving or ServingAgent(region, self._config)
        self._offer = ChannelOffer(channel=NIXL, metadata=self._serving.metadata, region=region)
        self._shared: ReadingAgent | None = None
        self._link_by_peer: dict[str, NixlLink] = {}
        self._retired: list[NixlLink] = []
        self._suspects: dict[str, bytes] = {}
        self._is_closed = False

    def offer(self) -> ChannelOffer:
        """Returns the serving agent's metadata and the region."""
        return self._offer

    def dial(self, peer: str, offer: ChannelOffer, timeout_s: float) -> NixlDialled:
        """Lets a throw-away agent prove that the peer is alive."""
        if self._is_closed:
            raise ClosedError("the nixl channel is closed")
        check_fit(peer, NIXL, self._region, offer)
        target = Target(peer, offer.metadata, offer.region)
        return NixlDialled(target, probe(target, self._config, timeout_s))

    def attach(self, dialled: Dialled) -> NixlLink:
        """Adds a peer that was proven alive to a reading agent."""
        if self._is_closed:
            raise ClosedError("the nixl channel is closed")
        if not isinstance(dialled, NixlDialled):
            raise ArgumentError("dialled", type(dialled).__name__, "is of another channel")
        peer, target, proof = dialled.peer, dialled.target, dialled.proof
        self._retire(peer)
        reading = self._reading_agent(target, proof.agent)
        try:
            peering = reading.add_peer(target, proof.agent)
        except P2PError:
            self._close_if_unused(reading)
            raise
        link = NixlLink(reading, peering, target, self._region, proof.transport)
        self._link_by_peer[peer] = link
        _LOGGER.info("nixl: connected to %s over %s", peer, proof.transport)
        return link

    def connect(self, peer: str, offer: ChannelOffer, timeout_s: float) -> NixlLink:
        """Dials and attaches. The earlier link to the peer lives until the peer has answered."""
        return self.attach(self.dial(peer, offer, timeout_s))

    def sibling(self) -> "NixlChannel":
        """Returns a channel with reading agents of its own."""
        return NixlChannel(self._region, self._config, self._serving)

    def quarantined(self) -> int:
        """Returns how many given-up transfers are in flight, after making progress."""
        count = sum(link.num_given_up() for link in self._links())
        self._sweep()
        return count

    def fence(self, peer: str) -> None:
        """Destroys the agents on which given-up transfers with a peer are in flight."""
        guilty = [
            link for link in self._links() if link.target.peer == peer and link.num_given_up()
        ]
        for reading in {id(link.reading): link.reading for link in guilty}.values():
            self._tear_down(reading, f"the agent was torn down to fence {peer}")
        self._sweep()

    def close(self) -> None:
        """Destroys all agents; nothing is in flight afterwards. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        for link in self._links():
            self._tear_down(link.reading, "the channel is closed")
        if self._shared is not None:
            self._shared.close()
        if not self._is_sibling:
            self._serving.close()

    def _links(self) -> list[NixlLink]:
        return [*self._link_by_peer.values(), *self._retired]

    def _reading_agent(self, target: Target, agent: str) -> ReadingAgent:
        """Returns the shared agent, or a new one for a suspect and for whom it cannot take."""
        if self._suspects.get(target.peer) == target.metadata:
            return ReadingAgent(self._region, self._config)
        if self._shared is None:
            self._shared = ReadingAgent(self._region, self._config)
        if self._shared.can_take(agent):
            return self._shared
        return ReadingAgent(self._region, self._config)

    def _retire(self, peer: str) -> None:
        link = self._link_by_peer.pop(peer, None)
        if link is not None:
            link.close()
            self._note_suspect(link)
            self._retired.append(link)
        self._sweep()

    def _sweep(self) -> None:
        """Forgets links that are over, and destroys agents of their own that they had."""
        for link in [link for link in self._links() if link.is_finished()]:
            self._drop(link)
            self._close_if_unused(link.reading)

    def _note_suspect(self, link: NixlLink) -> None:
        """Remembers who misbehaved; a restarted peer has other metadata and is trusted anew."""
        if link.is_suspect:
            self._suspects[link.target.peer] = link.target.metadata

    def _drop(self, link: NixlLink) -> None:
        self._note_suspect(link)
        if self._link_by_peer.get(link.target.peer) is link:
            del self._link_by_peer[link.target.peer]
        self._retired = [other for other in self._retired if other is not link]

    def _close_if_unused(self, reading: ReadingAgent) -> None:
        is_used = any(link.reading is reading for link in self._links())
        if reading is not self._shared and not is_used:
            reading.close()

    def _tear_down(self, reading: ReadingAgent, reason: str) -> None:
        reading.close()
        if reading is self._shared:
            self._shared = None
        for link in [link for link in self._links() if link.reading is reading]:
            _LOGGER.info("nixl: link to %s closed: %s", link.target.peer, reason)
            link.lose(reason)
            self._drop(link)
