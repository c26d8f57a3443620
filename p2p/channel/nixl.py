"""The `nixl` channel: RDMA, NVLink, same-host copies, TCP, through NIXL.

One serving agent for the channel's life, one shared reading agent, and others on which transfers
were given up: NIXL cannot cancel, and only the destruction of an agent stops what is in flight. So
the shared agent is left to the peer with which a transfer was given up, everybody else moves to a
fresh one with the next submit, and whoever was given up before gets an agent of its own.
"""

import logging
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from p2p.agent.drain import DRAIN
from p2p.agent.nixl_config import NixlConfig
from p2p.agent.probe import Proof, Target, probe
from p2p.agent.reading import ReadingAgent
from p2p.agent.serving import ServingAgent
from p2p.channel.base import ChannelName, ChannelOffer, Dialled
from p2p.channel.fit import check_fit, check_probe
from p2p.channel.nixl_link import NixlLink, Seat
from p2p.errors import ArgumentError, ClosedError, P2PError
from p2p.regions import Region

_LOGGER = logging.getLogger(__name__)
_MAX_PIECES = (1 << 31) - 1
_LAST_CHANCE_S = 0.02
_PAUSE_S = 0.0005
NIXL = ChannelName("nixl")


@dataclass(frozen=True, slots=True)
class NixlDialled:
    """A peer that a throw-away agent has proven alive."""

    target: Target
    proof: Proof
    alive_s: float = field(default_factory=time.monotonic)

    @property
    def peer(self) -> str:
        """The peer's name in our words."""
        return self.target.peer

    @property
    def transport(self) -> str:
        """What moved the probe."""
        return self.proof.transport

    @property
    def latency_s(self) -> float:
        """Of the probe's second read."""
        return self.proof.latency_s


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
        self._agents: list[ReadingAgent] = []  # all, the shared one too
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
        proof = probe(target, self._config, timeout_s)
        check_probe(peer, offer.region, proof.content)
        return NixlDialled(target, proof)

    def attach(self, dialled: Dialled) -> NixlLink:
        """Adds a peer that was proven alive to a reading agent."""
        if self._is_closed:
            raise ClosedError("the nixl channel is closed")
        if not isinstance(dialled, NixlDialled):
            raise ArgumentError("dialled", type(dialled).__name__, "is of another channel")
        peer, target, proof = dialled.peer, dialled.target, dialled.proof
        self._retire(peer)
        seat = self.seat(target, proof.agent)
        link = NixlLink(self, seat, target, self._region, proof, dialled.alive_s)
        self._link_by_peer[peer] = link
        DRAIN.settle(peer)
        _LOGGER.info("nixl: connected to %s over %s", peer, proof.transport)
        return link

    def connect(self, peer: str, offer: ChannelOffer, timeout_s: float) -> NixlLink:
        """Dials and attaches. The earlier link to the peer lives until the peer has answered."""
        return self.attach(self.dial(peer, offer, timeout_s))

    def sibling(self) -> "NixlChannel":
        """Returns a channel with reading agents of its own."""
        return NixlChannel(self._region, self._config, self._serving)

    def quarantined(self) -> int:
        """Returns how many given-up transfers are in flight, after making progress.

        Tears agents down that carry more than the settings allow; may block as `fence` does.
        """
        counts = Counter(reading for link in self._links() for reading in link.given_up())
        limit = self._config.max_quarantined
        crowded = [reading for reading, count in counts.items() if count >= limit]
        if crowded:
            self._fence(crowded, f"the agent was torn down, {limit} transfers were given up on it")
            counts = Counter(reading for link in self._links() for reading in link.given_up())
        self._sweep()
        return counts.total()

    def fence(self, peer: str) -> None:
        """Destroys the agents on which given-up transfers with a peer are in flight.

        What others have been running there since before is given 20 ms to end.
        """
        links = [link for link in self._links() if link.target.peer == peer]
        guilty = {reading for link in links for reading in link.given_up()}
        self._fence(guilty, f"the agent was torn down to fence {peer}")
        self._sweep()

    def close(self) -> None:
        """Destroys all agents; nothing is in flight afterwards. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        for link in self._links():
            link.go_down("the channel is closed")
        for reading in tuple(self._agents):
            self._tear_down(reading, "the channel is closed")
        self._sweep()
        if not self._is_sibling:
            self._serving.close()

    def seat(self, target: Target, agent: str) -> Seat:
        """Returns a place for a peer that was alive just now; see `Seating`."""
        reading = self._reading_agent(target, agent)
        try:
            return Seat(reading, reading.add_peer(target, agent))
        except P2PError:
            self.on_left()
            raise

    def on_suspect(self, link: NixlLink, reading: ReadingAgent) -> None:
        """Remembers who was given up, and leaves the shared agent to it.

        A restarted peer has other metadata and is trusted anew.
        """
        self._suspects[link.target.peer] = link.target.metadata
        if reading is self._shared:
            reading.is_tainted = True
            self._shared = None

    def must_leave(self, link: NixlLink) -> bool:
        """Returns whether a link must leave a tainted agent.

        A suspect stays where it was given up, unless it has quiesced and another has not.
        """
        if not link.is_suspect:
            return True
        guilty = [other for other in self._links() if link.reading in other.given_up()]
        return bool(guilty) and link not in guilty

    def on_left(self) -> None:
        """Destroys the agents that nobody uses any more, apart from the shared one."""
        others = [reading for reading in self._agents if reading is not self._shared]
        if not others:
            return
        used = {seat.reading for link in self._links() for seat in link.seats() if not seat.is_gone}
        for reading in others:
            if reading not in used:
                self._forget(reading)

    def _links(self) -> list[NixlLink]:
        return [*self._link_by_peer.values(), *self._retired]

    def _reading_agent(self, target: Target, agent: str) -> ReadingAgent:
        """Returns the shared agent, or a new one for a suspect and for whom it cannot take."""
        if self._suspects.get(target.peer) == target.metadata:
            return self._start_agent()
        if self._shared is None:
            self._shared = self._start_agent()
        if self._shared.can_take(agent):
            return self._shared
        return self._start_agent()

    def _start_agent(self) -> ReadingAgent:
        reading = ReadingAgent(self._region, self._config)
        self._agents.append(reading)
        return reading

    def _retire(self, peer: str) -> None:
        link = self._link_by_peer.pop(peer, None)
        if link is not None:
            self._retired.append(link)
            link.close()
        self._sweep()

    def _sweep(self) -> None:
        """Forgets links that are over, and destroys agents that nobody uses any more."""
        for link in [link for link in self._links() if link.is_finished()]:
            if self._link_by_peer.get(link.target.peer) is link:
                del self._link_by_peer[link.target.peer]
            self._retired = [other for other in self._retired if other is not link]
        self.on_left()

    def _fence(self, readings: Collection[ReadingAgent], reason: str) -> None:
        """Destroys agents unless all that was given up there ends by itself just now."""
        self._let_others_end(readings)
        guilty = {reading for link in self._links() for reading in link.given_up()}
        for reading in readings:
            if reading in guilty:
                self._tear_down(reading, reason)

    def _let_others_end(self, readings: Collection[ReadingAgent]) -> None:
        others = [link for link in self._links() if not any(link.given_up())]
        deadline = time.monotonic() + _LAST_CHANCE_S
        while sum(link.num_running(readings) for link in others):
            if time.monotonic() > deadline:
                return
            time.sleep(_PAUSE_S)

    def _tear_down(self, reading: ReadingAgent, reason: str) -> None:
        _LOGGER.info("nixl: %s", reason)
        busy = [link.target.peer for link in self._links() if link.is_busy_on(reading)]
        with DRAIN.taking_over(busy):
            self._forget(reading)
        for link in self._links():
            link.lose(reading, reason)

    def _forget(self, reading: ReadingAgent) -> None:
        reading.close()
        self._agents = [other for other in self._agents if other is not reading]
        if reading is self._shared:
            self._shared = None
