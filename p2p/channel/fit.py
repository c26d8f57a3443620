"""Whether a peer's offer fits our channel; the field that differs is named."""

from p2p.channel.base import ChannelOffer
from p2p.errors import ArgumentError, PeerRefusedError, ProtocolError, TransferError
from p2p.regions import Region, probe_content


def check_fit(peer: str, channel: str, region: Region, offer: ChannelOffer) -> None:
    """Checks that blocks of the peer can be copied onto ours and back.

    Raises:
        PeerRefusedError: channel or segments differ; names the field.
        ProtocolError: the peer's region contradicts itself.
    """
    if offer.channel != channel:
        raise PeerRefusedError(peer, "channel", channel, offer.channel)
    ours, theirs = region.segments, offer.region.segments
    if len(ours) != len(theirs):
        raise PeerRefusedError(peer, "region.segments", len(ours), len(theirs))
    for number, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        if our.length != their.length:
            field = f"region.segments[{number}].length"
            raise PeerRefusedError(peer, field, our.length, their.length)
    try:
        offer.region.check()
    except ArgumentError as error:
        raise ProtocolError(f"{peer}: region: {error}") from error


def check_probe(peer: str, region: Region, content: bytes) -> None:
    """Compares what was read of a peer's probe with what must lie there, if it has one.

    Raises:
        TransferError: a byte differs: the channel does not move what it should.
    """
    if region.probe is None:
        return
    expected = probe_content(region.probe.seed)
    if content != expected:
        pairs = enumerate(zip(content, expected, strict=False))
        first = next((at for at, (ours, theirs) in pairs if ours != theirs), len(content))
        reason = f"its probe of {len(expected)} bytes came with other bytes from byte {first} on"
        raise TransferError(peer, reason)
