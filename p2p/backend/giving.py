"""What an instance gives to peers: before it leaves, and of what is too hot. See `handover`.

No I/O, no clock, no threads.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from p2p.backend.actions import Tag
from p2p.backend.handover import Chain, Handover, hottest_chains
from p2p.backend.instance import InstanceCore
from p2p.wire.messages import Holder, LeftReason, Message

if TYPE_CHECKING:
    from p2p.backend.errands import Errand
    from p2p.backend.handover import Offer

_COPY_S = 10.0


class Giving:
    """All handovers of one instance.

    Args:
        instance: what it has.
        ask: sends a question to a peer.
        is_usable: false for peers that must not be asked now.
    """

    def __init__(
        self,
        instance: InstanceCore,
        ask: Callable[[Holder, Message], Tag],
        is_usable: Callable[[Holder, float], bool],
    ) -> None:
        self._instance = instance
        self._ask = ask
        self._is_usable = is_usable
        self._handovers: list[Handover] = []
        self._batches = itertools.count(1)
        self._drains: dict[int, Errand | None] = {}
        self._open: dict[Tag, tuple[Handover, Offer]] = {}

    @property
    def is_idle(self) -> bool:
        """True if nothing is being given."""
        return not self._handovers

    def drain(self, deadline_s: float, now_s: float, errand: "Errand | None" = None) -> Handover:
        """Gives everything that is here, hottest first; readers are sent to those who took it.

        Args:
            deadline_s: when it ends.
            now_s: the time.
            errand: the order that is carried out by this, if it is one.
        """
        core = self._instance
        handover = self._start(hottest_chains(core.index), self._peers(now_s), deadline_s)
        self._drains[handover.batch] = errand
        core.handover = handover
        self.on_time(now_s)
        return handover

    def on_time(self, now_s: float) -> None:
        """Makes the offers that are due, and forgets what is over."""
        core = self._instance
        while core.hot.copies:
            chain = core.hot.copies.popleft()
            entry = core.index.get(chain.keys[-1])
            readers = entry.readers if entry is not None else ()
            peers = [peer for peer in self._peers(now_s) if peer.instance not in readers]
            if peers:
                core.counters["copies_asked_for"] += 1
                self._start([chain], peers[:1], now_s + _COPY_S)
        for handover in self._handovers:
            for offer in handover.due(now_s):
                message = handover.message(offer, core.namespace_id, now_s)
                self._open[self._ask(offer.holder, message)] = (handover, offer)
        for handover in [one for one in self._handovers if one.is_over(now_s)]:
            self._handovers.remove(handover)
            if handover.batch in self._drains:
                self._end_drain(handover, self._drains.pop(handover.batch), now_s)
        self._open = {
            tag: (handover, offer)
            for tag, (handover, offer) in self._open.items()
            if handover in self._handovers
        }

    def on_answer(self, tag: Tag, answer: Message | None, now_s: float) -> bool:
        """Takes a peer's answer; false if the question was not asked here."""
        opened = self._open.pop(tag, None)
        if opened is None:
            return False
        handover, offer = opened
        handover.on_answer(offer, answer)
        self.on_time(now_s)
        return True

    def next_deadline_s(self) -> float | None:
        """Returns when `on_time` has something to do."""
        return min((one.next_deadline_s() for one in self._handovers), default=None)

    def _end_drain(self, handover: Handover, errand: "Errand | None", now_s: float) -> None:
        """If peers have everything, nobody should be sent here any more."""
        num_left = handover.num_chunks - handover.num_kept
        if not num_left:
            self._instance.membership.leave()
        if errand is None:
            return
        errand.num_done = handover.num_kept
        if num_left:
            is_late = now_s >= handover.deadline_s
            errand.left[LeftReason.TIME_OVER if is_late else LeftReason.NO_ROOM] = num_left
        num_pinned = len(self._instance.errands.pins)
        if num_pinned:  # peers have the chunks, and may evict them
            errand.left[LeftReason.PINNED] = num_pinned
        self._instance.errands.finish(errand, "pins are not handed over" if num_pinned else "")

    def _start(
        self, chains: Sequence[Chain], peers: Sequence[Holder], deadline_s: float
    ) -> Handover:
        batch = next(self._batches)
        handover = Handover(self._instance.identity, chains, peers, deadline_s, batch)
        self._handovers.append(handover)
        return handover

    def _peers(self, now_s: float) -> list[Holder]:
        """Returns the members that may be asked, those that lend the least first."""
        identity = self._instance.identity
        known = self._instance.membership.roster.known(now_s)
        usable = [
            peer
            for peer in known
            if peer.instance != identity.instance and self._is_usable(peer, now_s)
        ]
        return sorted(
            usable, key=lambda p: (p.load_bytes, p.distance_to(identity.host, identity.rack))
        )
