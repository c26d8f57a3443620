"""The endpoint of the `shm` channel: lends one region's memory file, and maps those of peers."""

import logging
import time
from dataclasses import dataclass

from p2p.agent.memory_files import shared_file_of
from p2p.channel.base import ChannelName, ChannelOffer, Dialled
from p2p.channel.fit import check_fit, check_probe
from p2p.channel.own_links import OwnLinks
from p2p.channel.shm.copier import Copier
from p2p.channel.shm.greeting import VERSION, ShmMetadata, encode, this_place
from p2p.channel.shm.link import CopyRules, ShmLink
from p2p.channel.shm.serving import PoolServer
from p2p.channel.shm.session import Session, open_session, read_target
from p2p.channel.shm.settings import ShmConfig
from p2p.errors import ArgumentError, ClosedError, PeerRefusedError, PeerUnreachableError
from p2p.regions import MemoryKind, Region

_LOGGER = logging.getLogger(__name__)
SHM = ChannelName("shm")


@dataclass(frozen=True, slots=True)
class ShmDialled:
    """A peer that lent its pool, which stays mapped as long as this or a link of it is there."""

    session: Session
    latency_s: float

    @property
    def peer(self) -> str:
        """The peer's name in our words."""
        return self.session.target.peer

    @property
    def transport(self) -> str:
        """What moves the bytes: a processor of ours."""
        return SHM


@dataclass(frozen=True, slots=True)
class _Shared:
    """What a channel and its siblings have in common."""

    server: PoolServer | None
    copier: Copier
    offer: ChannelOffer


class ShmChannel:
    """A rank's region in shared memory; implements `p2p.channel.base.Channel`.

    A region in private memory is read into as any other, but lent to nobody: whoever dials it is
    refused by the field ``memory``.

    Args:
        region: served to peers, and the local side of every transfer. The caller keeps its memory
            mapped until the process ends.
        config: settings.
        shared: what a sibling has in common with the channel that made it.

    Raises:
        MemoryUnavailableError: the memory cannot be lent.
        ArgumentError: the region contradicts itself or lies on a device.
    """

    def __init__(
        self,
        region: Region,
        config: ShmConfig | None = None,
        shared: _Shared | None = None,
    ) -> None:
        region.check()
        if region.kind is not MemoryKind.DRAM:
            raise ArgumentError("region.kind", region.kind.value, "shm copies host memory only")
        self._region = region
        self._config = config or ShmConfig()
        self._is_sibling = shared is not None
        self._shared = shared or _open_shared(region, self._config)
        self._rules = CopyRules(region, self._shared.copier, self._config.inline_bytes)
        self._links: OwnLinks[ShmLink] = OwnLinks()
        self._is_closed = False

    def offer(self) -> ChannelOffer:
        """Returns the name of our socket, the token that it asks for, and the region."""
        return self._shared.offer

    def dial(self, peer: str, offer: ChannelOffer, timeout_s: float) -> ShmDialled:
        """Asks a holder for its pool, and maps it.

        Raises:
            MemoryUnavailableError: the pool cannot be mapped here.
        """
        self._check_open()
        check_fit(peer, SHM, self._region, offer)
        if offer.region.kind is not MemoryKind.DRAM:
            theirs = offer.region.kind.value
            raise PeerRefusedError(peer, "region.kind", MemoryKind.DRAM.value, theirs)
        target = read_target(peer, offer.metadata, offer.region)
        session = open_session(target, self._config.access, timeout_s)
        began_s = time.monotonic()
        content = session.probe()
        latency_s = time.monotonic() - began_s
        check_probe(peer, offer.region, content)
        return ShmDialled(session, latency_s)

    def attach(self, dialled: Dialled) -> ShmLink:
        """Returns a link over a pool that was mapped."""
        self._check_open()
        if not isinstance(dialled, ShmDialled):
            raise ArgumentError("dialled", type(dialled).__name__, "is of another channel")
        if not dialled.session.is_alive():
            raise PeerUnreachableError(dialled.peer, "it died since")
        self._links.retire(dialled.peer)
        link = ShmLink(dialled.session, self._rules)
        self._links.keep(link)
        _LOGGER.info("shm: mapped the pool of %s to %s", dialled.peer, dialled.session.access.value)
        return link

    def connect(self, peer: str, offer: ChannelOffer, timeout_s: float) -> ShmLink:
        """Dials and attaches."""
        return self.attach(self.dial(peer, offer, timeout_s))

    def sibling(self) -> "ShmChannel":
        """Returns a channel with links of its own; the threads that copy are the same."""
        return ShmChannel(self._region, self._config, self._shared)

    def quarantined(self) -> int:
        """Returns how many given-up transfers have not quiesced."""
        return self._links.quarantined()

    def fence(self, peer: str) -> None:
        """Waits until what was given up with a peer has quiesced: one piece for each thread."""
        self._links.fence(peer)

    def close(self) -> None:
        """Ends all links and waits until nothing is copied any more. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        for link in self._links:
            link.go_down("the channel is closed")
            link.close()
            link.fence("the channel is closed")
        self._links.clear()
        if not self._is_sibling:
            self._shared.copier.close()
            if self._shared.server is not None:
                self._shared.server.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClosedError("the shm channel is closed")


def _open_shared(region: Region, config: ShmConfig) -> _Shared:
    file = shared_file_of(region)
    server = None if file is None else PoolServer(file, config)
    metadata = _private_metadata() if server is None else server.metadata
    offer = ChannelOffer(channel=SHM, metadata=metadata, region=region)
    return _Shared(server, Copier(config.threads()), offer)


def _private_metadata() -> bytes:
    place = this_place()
    return encode(
        ShmMetadata(
            version=VERSION,
            boot=place.boot,
            network=place.network,
            name="",
            token=b"",
            address=0,
            num_bytes=0,
        )
    )
