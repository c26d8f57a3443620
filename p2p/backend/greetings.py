"""The first contacts of a reader: hellos, what comes back, and an end for what takes too long.

A contact is nobody's: it goes on when the fetch that began it is over, and the next finds a link.

No I/O, no clock, no threads.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from p2p.backend.actions import OpenLink, Tag
from p2p.backend.handshake import Peer, PeerState
from p2p.wire.messages import Hello, Holder, Message, Refusal, RefusalCode, Welcome

if TYPE_CHECKING:
    from p2p.backend.reader import ReaderCore

_MAX_OPEN = 10_000
_UNREACHABLE = "its address refuses connections, or no way leads there"
_LEAST_S = 0.1  # for a channel to be connected
_PERMANENT = frozenset({RefusalCode.NAMESPACE, RefusalCode.LAYOUT, RefusalCode.VERSION})


class Greetings:
    """All first contacts of one reader.

    Args:
        reader: whose.
        ask: sends a question to a holder.
    """

    def __init__(self, reader: "ReaderCore", ask: Callable[[Holder, Message], Tag]) -> None:
        self._reader = reader
        self._ask = ask
        self._open: dict[Tag, Holder] = {}

    def greet(self, holder: Holder) -> None:
        """Says who we are, and how we can be reached."""
        core = self._reader.instance
        identity = core.identity
        hello = Hello(
            instance=identity.instance,
            incarnation=identity.incarnation,
            namespace=identity.namespace,
            layout=identity.layout,
            ranks=core.offers,
        )
        self._open[self._ask(holder, hello)] = holder
        while len(self._open) > _MAX_OPEN:
            del self._open[next(iter(self._open))]

    def connect(self, holder: Holder, now_s: float) -> None:
        """Begins the first contact with a holder, unless it is under way, over, or not due."""
        if self._reader.book.greet(holder, now_s):
            self.greet(holder)

    def on_unreachable(self, holder: Holder, now_s: float) -> None:
        """A holder's address refuses connections: a first contact ends at once."""
        peer = self._reader.book.get(holder.instance)
        if peer is None or peer.holder.incarnation != holder.incarnation:
            return
        if peer.is_in_contact:
            self._reader.down(holder.instance, _UNREACHABLE, now_s)

    def on_time(self, now_s: float) -> None:
        """Says hello again where it may have been lost; ends contacts that take too long."""
        for peer in self._reader.book.contacts():
            if now_s >= peer.contact_s + self._reader.limits.contact_s:
                self._reader.down(peer.holder.instance, peer.delay(now_s), now_s)
            else:
                self.connect(peer.holder, now_s)

    def next_deadline_s(self) -> float | None:
        """Returns when `on_time` has something to do."""
        times = [
            min(peer.contact_s + self._reader.limits.contact_s, _greet_at_s(peer))
            for peer in self._reader.book.contacts()
        ]
        return min(times, default=None)

    def on_answer(self, tag: Tag, answer: Message | None, now_s: float) -> bool:
        """Takes an answer, or None if there was none; false if the question was no hello."""
        holder = self._open.pop(tag, None)
        if holder is None:
            return False
        book, name = self._reader.book, holder.instance
        if answer is not None:
            book.heard(name)
        peer = book.get(name)
        if peer is None or peer.holder.incarnation != holder.incarnation:
            return True
        if isinstance(answer, Welcome):
            if book.welcomed(name, answer) is not None:
                left_s = peer.contact_s + self._reader.limits.contact_s - now_s
                self._reader.emit(OpenLink(holder, answer, max(left_s, _LEAST_S)))
        elif isinstance(answer, Refusal):
            self._on_refusal(name, answer, now_s)
        else:
            self._reader.down(name, "no answer to hello", now_s)
        return True

    def _on_refusal(self, name: str, refusal: Refusal, now_s: float) -> None:
        code, field = refusal.code.value, refusal.field
        reason = f"{code} {field}: {refusal.ours!r} there, ours {refusal.theirs!r}"
        if refusal.code not in _PERMANENT:
            self._reader.down(name, reason, now_s)
            return
        self._reader.instance.counters[f"peer_refused_{field or code}"] += 1
        self._reader.refused(name, reason, refusal)


def _greet_at_s(peer: Peer) -> float:
    """Returns when another hello is due."""
    if peer.state is not PeerState.GREETED:
        return float("inf")
    return peer.greeted_s + peer.greet_again_s
