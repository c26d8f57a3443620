"""Finds out beside the engine's loop whether holders answer, so that a dead one holds up nobody."""

import threading
import time
from collections import deque
from dataclasses import dataclass

from p2p.backend.actions import OpenLink
from p2p.channel.base import Channel, Dialled
from p2p.errors import P2PError
from p2p.wire.messages import ChannelOffer, Holder, Welcome
from p2p.wire.wakeup import Wakeup

_MOST_CALLS = 32  # at a time; one that is not answered lasts as long as its first contact may
_CLOSE_S = 1.0


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
    """Dials, each time on a thread of its own.

    Args:
        channel: that dials.
        wakeup: rung when a call has ended.
    """

    def __init__(self, channel: Channel, wakeup: Wakeup) -> None:
        self._channel = channel
        self._wakeup = wakeup
        self._calls: deque[Call] = deque()
        self._room = threading.BoundedSemaphore(_MOST_CALLS)
        self._threads: list[threading.Thread] = []
        self._is_closed = False

    def dial(self, action: OpenLink) -> None:
        """Starts a call; its end comes with `take`."""
        thread = threading.Thread(target=self._dial, args=(action,), name="p2p-dial", daemon=True)
        self._threads = [other for other in self._threads if other.is_alive()]
        self._threads.append(thread)
        thread.start()

    def take(self) -> list[Call]:
        """Returns the calls that ended since the last call of this."""
        calls: list[Call] = []
        while self._calls:
            calls.append(self._calls.popleft())
        return calls

    def close(self) -> None:
        """Waits a second for the calls under way; what takes longer ends by itself."""
        self._is_closed = True
        end_s = time.monotonic() + _CLOSE_S
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))

    def _dial(self, action: OpenLink) -> None:
        with self._room:
            if self._is_closed:
                return
            call = self._call(action.holder, action.welcome, action.timeout_s)
        self._calls.append(call)
        self._wakeup.ring()

    def _call(self, holder: Holder, welcome: Welcome, timeout_s: float) -> Call:
        offer = self._matching_offer(welcome)
        if offer is None:
            name = self._channel.offer().channel
            return Call(holder, None, f"offers no channel that we speak ({name})")
        try:
            return Call(holder, self._channel.dial(holder.instance, offer, timeout_s))
        except P2PError as error:
            return Call(holder, None, str(error))

    def _matching_offer(self, welcome: Welcome) -> ChannelOffer | None:
        name = self._channel.offer().channel
        offers = [offer for offer in welcome.ranks[0].channels if offer.channel == name]
        return offers[0] if offers else None
