"""All channels of one rank: the same region over each, and one to be chosen for every peer.

What was dialled over a channel is attached, cancelled and fenced over that channel. Threads: as
`p2p.channel.base`. No decisions.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from p2p.channel.base import Channel, ChannelName, ChannelOffer, Dialled, Link
from p2p.errors import ArgumentError


@dataclass(frozen=True, slots=True)
class Reached:
    """A peer that was dialled over one of the channels."""

    channel: ChannelName
    dialled: Dialled

    @property
    def peer(self) -> str:
        """The peer's name in our words."""
        return self.dialled.peer


class Channels:
    """The channels of one rank's region.

    Args:
        by_name: at least one, best first.
    """

    def __init__(self, by_name: Mapping[ChannelName, Channel]) -> None:
        if not by_name:
            raise ArgumentError("by_name", "", "must name at least one channel")
        self._by_name = dict(by_name)

    def offers(self) -> tuple[ChannelOffer, ...]:
        """Returns what peers need to connect, best first; constant for the channels' life."""
        return tuple(channel.offer() for channel in self._by_name.values())

    def dial(self, peer: str, offer: ChannelOffer, timeout_s: float) -> Reached:
        """Finds out whether a peer can be read from over the channel of an offer. Blocks.

        Raises: as `Channel.dial`, and

            ArgumentError: we have no such channel.
        """
        name = ChannelName(offer.channel)
        channel = self._by_name.get(name)
        if channel is None:
            raise ArgumentError("channel", name, f"is not among ours: {', '.join(self._by_name)}")
        return Reached(name, channel.dial(peer, offer, timeout_s))

    def attach(self, reached: Reached) -> Link:
        """Returns a link to a peer; an earlier one over another channel stays.

        Raises: as `Channel.attach`.
        """
        return self._by_name[reached.channel].attach(reached.dialled)

    def sibling(self) -> "Channels":
        """Returns the same channels for another thread; they serve nobody themselves."""
        return Channels({name: channel.sibling() for name, channel in self._by_name.items()})

    def quarantined(self) -> int:
        """Returns how many given-up transfers have not quiesced, after making progress."""
        return sum(channel.quarantined() for channel in self._by_name.values())

    def fence(self, peer: str) -> None:
        """Makes every given-up transfer with a peer quiesce now; may block 50 ms a channel."""
        for channel in self._by_name.values():
            channel.fence(peer)

    def close(self) -> None:
        """Closes all of them. Idempotent."""
        for channel in self._by_name.values():
            channel.close()
