"""What each channel has brought, here and at whom we read from. No I/O, no clock, no threads."""

from collections.abc import Sequence

import msgspec

from p2p.wire.messages import ChannelOffer, MeasuredRate

_FORGET_S = 600.0
_WORTH_TELLING = 1.25


class ChannelRates:
    """The best of each channel within the last ten minutes, on one host and elsewhere.

    The best, since a load that is shared with others tells nothing of the channel.

    Attributes:
        has_news: something was noted since `told`.
    """

    def __init__(self) -> None:
        self.has_news = False
        self._best: dict[tuple[str, bool], tuple[float, float]] = {}

    def note(self, channel: str, bytes_per_s: float, now_s: float, *, is_near: bool) -> None:
        """So many bytes per second came over a channel."""
        key = (channel, is_near)
        best, noted_s = self._best.get(key, (0.0, now_s))
        if bytes_per_s > best or now_s > noted_s + _FORGET_S:
            self._best[key] = (bytes_per_s, now_s)
            self.has_news = True

    def known(self, offer: ChannelOffer, now_s: float, *, is_near: bool) -> float:
        """Returns what a channel brought us, or else the peer that offers it; 0 if unknown."""
        rate, noted_s = self._best.get((offer.channel, is_near), (0.0, now_s))
        if rate and now_s <= noted_s + _FORGET_S:
            return rate
        theirs = [float(one.bytes_per_s) for one in offer.measured if one.is_near is is_near]
        return max(theirs, default=0.0)

    def told(self, offers: Sequence[ChannelOffer]) -> tuple[ChannelOffer, ...]:
        """Returns our offers with what was measured; the same ones where little has changed."""
        self.has_news = False
        return tuple(self._told(offer) for offer in offers)

    def _told(self, offer: ChannelOffer) -> ChannelOffer:
        measured = tuple(
            MeasuredRate(is_near=is_near, bytes_per_s=int(rate))
            for (channel, is_near), (rate, _) in sorted(self._best.items())
            if channel == offer.channel
        )
        if _are_alike(offer.measured, measured):
            return offer
        return msgspec.structs.replace(offer, measured=measured)


def _are_alike(old: Sequence[MeasuredRate], new: Sequence[MeasuredRate]) -> bool:
    if [one.is_near for one in old] != [one.is_near for one in new]:
        return False
    pairs = zip(old, new, strict=True)
    return all(
        max(one.bytes_per_s, other.bytes_per_s)
        <= _WORTH_TELLING * max(1, min(one.bytes_per_s, other.bytes_per_s))
        for one, other in pairs
    )
