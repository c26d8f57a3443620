"""The endpoint of the `tcp` channel: serves one region to peers, and connects to theirs."""

import logging
import secrets
import threading
import weakref
from dataclasses import dataclass

from p2p.channel.base import ChannelName, ChannelOffer, Dialled
from p2p.channel.fit import check_fit, check_probe
from p2p.channel.own_links import OwnLinks
from p2p.channel.tcp.greeting import VERSION, TcpMetadata, decode_metadata, encode
from p2p.channel.tcp.handshake import Admitted, Ends, open_stream, tls_contexts
from p2p.channel.tcp.identity import Identity
from p2p.channel.tcp.link import Ours, TcpLink, Theirs
from p2p.channel.tcp.pipe import Pipe
from p2p.channel.tcp.probing import read_probe
from p2p.channel.tcp.serving import PoolServer
from p2p.channel.tcp.settings import TcpConfig
from p2p.channel.tcp.spans import Views
from p2p.errors import ArgumentError, ClosedError, PeerRefusedError, PeerUnreachableError
from p2p.regions import MemoryKind, Region

_LOGGER = logging.getLogger(__name__)
TCP = ChannelName("tcp")


class TcpDialled:
    """A peer that has proven itself over a first stream, which the first link takes.

    Args:
        theirs: the peer.
        pipe: the stream; closed with this if no link took it.
        latency_s: of a read of the peer's probe.

    Attributes:
        transport: what moves the bytes.
    """

    def __init__(self, theirs: Theirs, pipe: Pipe, latency_s: float) -> None:
        self.theirs = theirs
        self.transport = pipe.transport
        self.latency_s = latency_s
        self._lock = threading.Lock()
        self._pipe: Pipe | None = pipe
        self._closing = weakref.finalize(self, pipe.close)

    @property
    def peer(self) -> str:
        """The peer's name in our words."""
        return self.theirs.peer

    def take(self) -> Pipe | None:
        """Returns the first stream to the first who asks.

        Raises:
            PeerUnreachableError: it has ended since.
        """
        with self._lock:
            pipe, self._pipe = self._pipe, None
            if pipe is None:
                return None
            if not pipe.is_open():
                pipe.close()
                raise PeerUnreachableError(self.peer, "it died since")
            self._closing.detach()
            return pipe


@dataclass(frozen=True, slots=True)
class _Shared:
    """What a channel and its siblings have in common."""

    server: PoolServer
    ends: Ends
    views: Views
    offer: ChannelOffer


class TcpChannel:
    """A rank's region over TCP; implements `p2p.channel.base.Channel`.

    Args:
        region: served to peers, and the local side of every transfer. The caller keeps its memory
            mapped until the process ends.
        config: settings.
        shared: what a sibling has in common with the channel that made it.

    Raises:
        ConfigError: we cannot listen, or keys or certificates are not what they should be.
        ArgumentError: the region contradicts itself or lies on a device.
    """

    def __init__(
        self,
        region: Region,
        config: TcpConfig | None = None,
        shared: _Shared | None = None,
    ) -> None:
        region.check()
        if region.kind is not MemoryKind.DRAM:
            raise ArgumentError("region.kind", region.kind.value, "tcp moves host memory only")
        self._region = region
        self._config = config or TcpConfig()
        self._is_sibling = shared is not None
        self._shared = shared or _open_shared(region, self._config)
        self._ours = Ours(region, self._shared.views, self._config.streams())
        self._links: OwnLinks[TcpLink] = OwnLinks()
        self._is_closed = False

    def offer(self) -> ChannelOffer:
        """Returns where we listen, the token and the key that we prove, and the region."""
        return self._shared.offer

    def dial(self, peer: str, offer: ChannelOffer, timeout_s: float) -> TcpDialled:
        """Connects, and lets the holder prove itself."""
        self._check_open()
        check_fit(peer, TCP, self._region, offer)
        if offer.region.kind is not MemoryKind.DRAM:
            theirs = offer.region.kind.value
            raise PeerRefusedError(peer, "region.kind", MemoryKind.DRAM.value, theirs)
        target = decode_metadata(peer, offer.metadata)
        self._check_target(peer, target)

        def open_one() -> Admitted:
            return open_stream(peer, target, self._config.access, self._shared.ends, timeout_s)

        first = open_one()
        pipe = first.pipe
        theirs = Theirs(peer, offer.region, first.access, pipe.transport, lambda: open_one().pipe)
        try:
            probed = read_probe(peer, pipe, offer.region, timeout_s)
            check_probe(peer, offer.region, probed.content)
        except BaseException:
            pipe.close()
            raise
        return TcpDialled(theirs, pipe, probed.latency_s)

    def attach(self, dialled: Dialled) -> TcpLink:
        """Returns a link; streams beyond the first one are opened when they are needed."""
        self._check_open()
        if not isinstance(dialled, TcpDialled):
            raise ArgumentError("dialled", type(dialled).__name__, "is of another channel")
        pipe = dialled.take()
        self._links.retire(dialled.peer)
        link = TcpLink(self._ours, dialled.theirs, pipe)
        self._links.keep(link)
        _LOGGER.info("%s: connected to %s", link.transport(), dialled.peer)
        return link

    def connect(self, peer: str, offer: ChannelOffer, timeout_s: float) -> TcpLink:
        """Dials and attaches."""
        return self.attach(self.dial(peer, offer, timeout_s))

    def sibling(self) -> "TcpChannel":
        """Returns a channel whose links have streams of their own."""
        return TcpChannel(self._region, self._config, self._shared)

    def quarantined(self) -> int:
        """Returns how many given-up transfers have not quiesced."""
        return self._links.quarantined()

    def fence(self, peer: str) -> None:
        """Closes the connections on which transfers with a peer were given up."""
        self._links.fence(peer)

    def close(self) -> None:
        """Ends all links and serves nobody any more. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        for link in self._links:
            link.go_down("the channel is closed")
            link.close()
        self._links.clear()
        if not self._is_sibling:
            self._shared.server.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClosedError("the tcp channel is closed")

    def _check_target(self, peer: str, target: TcpMetadata) -> None:
        if target.version != VERSION:
            raise PeerRefusedError(peer, "version", VERSION, target.version)
        is_tls = self._config.tls is not None
        if target.is_tls is not is_tls:
            raise PeerRefusedError(peer, "tls", is_tls, target.is_tls)
        misfit = self._shared.ends.identity.misfit(target.key)
        if misfit is not None:
            raise PeerRefusedError(peer, "key", *misfit)


def _open_shared(region: Region, config: TcpConfig) -> _Shared:
    connecting, accepting = tls_contexts(config.tls) if config.tls else (None, None)
    ends = Ends(
        identity=Identity(config.keys),
        origin=secrets.token_bytes(16),
        silence_s=config.silence_s,
        connecting=connecting,
        accepting=accepting,
    )
    server = PoolServer(region, config, ends)
    offer = ChannelOffer(channel=TCP, metadata=encode(server.metadata), region=region)
    return _Shared(server, ends, Views(region), offer)
