"""The hellos of a reader: sends them, and takes what comes back.

No I/O, no clock, no threads.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from p2p.backend.actions import OpenLink, Tag
from p2p.wire.messages import Hello, Holder, Message, Refusal, RefusalCode, Welcome

if TYPE_CHECKING:
    from p2p.backend.reader import ReaderCore

_MAX_OPEN = 10_000
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
                self._reader.emit(OpenLink(holder, answer))
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
