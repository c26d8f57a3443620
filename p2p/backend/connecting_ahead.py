"""Whom an instance links to before a fetch needs them: so that a first hit is no first contact.

They are the holders that answers of the directory name, and at the start some of the nearest
members. Few at a time and few in all: a fleet has far more pairs than will ever share. Contacts are
begun while no fetch is under way. No I/O, no clock, no threads.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2p.backend.handshake import PeerState
from p2p.backend.plan import spread
from p2p.wire.messages import Holder

if TYPE_CHECKING:
    from p2p.backend.reader import ReaderCore

_MAX_WANTED = 64
_AT_ONCE = 2  # contacts; each takes a processor for a tenth of a second
_SPREAD_S = 1.0  # instances that start together do not all begin at once


@dataclass(frozen=True, slots=True)
class AheadLimits:
    """How far an instance connects ahead.

    Attributes:
        links: nobody is connected ahead of need once so many holders are linked; 0 is off.
        near: so many links are made to the nearest members as soon as they are known.
        pause_s: between two contacts that are begun here.
    """

    links: int = 0
    near: int = 0
    pause_s: float = 0.25


class ConnectingAhead:
    """The contacts that one reader begins before anybody needs them.

    Args:
        reader: whose.
        limits: how far it goes.
    """

    def __init__(self, reader: "ReaderCore", limits: AheadLimits) -> None:
        self._reader = reader
        self._limits = limits
        self._wanted: dict[str, Holder] = {}
        self._next_s = float("-inf")
        self._members: object = None  # the list that was looked at last

    def note_named(self, holders: Iterable[Holder]) -> bool:
        """The directory has named holders; returns whether one can be connected now."""
        fresh = [holder for holder in holders if self._is_stranger(holder)]
        if not self._limits.links or not fresh:
            return False
        self._wanted.update((holder.instance, holder) for holder in fresh)
        while len(self._wanted) > _MAX_WANTED:
            del self._wanted[next(iter(self._wanted))]
        return self._can_begin

    def on_time(self, now_s: float) -> None:
        """Begins the contacts that are due."""
        self._look_at_members(now_s)
        while self._can_begin and now_s >= self._next_s:
            name = next(iter(self._wanted))
            holder = self._wanted.pop(name)
            if self._is_stranger(holder) and self._reader.book.is_usable(holder, now_s):
                self._next_s = now_s + self._limits.pause_s
                self._reader.instance.counters["links_begun_ahead"] += 1
                self._reader.connect(holder, now_s)

    def next_deadline_s(self) -> float | None:
        """Returns when `on_time` has something to do."""
        return self._next_s if self._can_begin else None

    @property
    def _can_begin(self) -> bool:
        if not self._wanted or self._reader.is_fetching:
            return False
        book = self._reader.book
        return book.num_links < self._limits.links and len(book.contacts()) < _AT_ONCE

    def _look_at_members(self, now_s: float) -> None:
        """Wants links to the nearest members, where there are few links yet."""
        roster, book = self._reader.instance.membership.roster, self._reader.book
        if roster.version == self._members or not self._limits.links:
            return
        if self._members is None:
            share = spread(self._own_name, "") % 1000 / 1000
            self._next_s = now_s + share * _SPREAD_S
        self._members = roster.version
        room = self._limits.near - book.num_links - len(self._wanted)
        own = self._reader.instance.identity
        strangers = [peer for peer in roster.known(now_s) if self._is_stranger(peer)]
        strangers.sort(
            key=lambda peer: (
                peer.distance_to(own.host, own.rack),
                spread(own.instance, peer.instance),
            )
        )
        self.note_named(strangers[: max(room, 0)])

    @property
    def _own_name(self) -> str:
        return self._reader.instance.identity.instance

    def _is_stranger(self, holder: Holder) -> bool:
        """True if there is neither a link to a holder at this start of its, nor a contact."""
        if holder.instance == self._own_name:
            return False
        peer = self._reader.book.get(holder.instance)
        if peer is None or peer.holder.incarnation < holder.incarnation:
            return True
        return peer.state is PeerState.DOWN and peer.holder.incarnation == holder.incarnation
