"""Finds out beside the engine's loop whether holders answer, so that a dead one holds up nobody."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from p2p.channel.base import Channel, Dialled
from p2p.errors import P2PError
from p2p.wire.messages import ChannelOffer, Holder, Welcome
from p2p.wire.wakeup import Wakeup

_NUM_THREADS = 4
_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Call:
    """How dialling ended.

    Attributes:
        holder: who was dialled.
        dialled: what a link is made of; None if there was no answer.
        problem: why.
    """

    holder: Holder
    dialled: Dialled | None
    problem: str = ""


class Dialer:
    """Dials on threads of its own.

    Args:
        channel: that dials.
        wakeup: rung when a call has ended.
    """

    def __init__(self, channel: Channel, wakeup: Wakeup) -> None:
        self._channel = channel
        self._wakeup = wakeup
        self._calls: deque[Call] = deque()
        self._threads = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="p2p-dial")

    def dial(self, holder: Holder, welcome: Welcome) -> None:
        """Starts a call; its end comes with `take`."""
        self._threads.submit(self._dial, holder, welcome)

    def take(self) -> list[Call]:
        """Returns the calls that ended since the last call of this."""
        calls: list[Call] = []
        while self._calls:
            calls.append(self._calls.popleft())
        return calls

    def close(self) -> None:
        """Waits for the calls under way, at most a second each, and drops the others."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _dial(self, holder: Holder, welcome: Welcome) -> None:
        self._calls.append(self._call(holder, welcome))
        self._wakeup.ring()

    def _call(self, holder: Holder, welcome: Welcome) -> Call:
        offer = self._matching_offer(welcome)
        if offer is None:
            name = self._channel.offer().channel
            return Call(holder, None, f"offers no channel that we speak ({name})")
        try:
            return Call(holder, self._channel.dial(holder.instance, offer, _TIMEOUT_S))
        except P2PError as error:
            return Call(holder, None, str(error))

    def _matching_offer(self, welcome: Welcome) -> ChannelOffer | None:
        name = self._channel.offer().channel
        offers = [offer for offer in welcome.ranks[0].channels if offer.channel == name]
        return offers[0] if offers else None
