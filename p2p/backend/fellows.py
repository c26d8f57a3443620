"""Other readers of the same prompt: each has more of it every moment, and lends what it has.

A holder names to every reader of a long run the others that it lends it to, and whoever asks here
for what is being fetched here is one, too. They are asked again and again for what they have by
now. They only add to a fetch: what a fellow has not, nobody misses. No I/O, no clock, no threads.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2p.backend.borrow import Borrower
from p2p.backend.fetch_context import FetchContext
from p2p.backend.lenders import Lenders
from p2p.backend.peers import named_peers
from p2p.backend.spreading import Spreading

if TYPE_CHECKING:
    from p2p.backend.hot import Search
    from p2p.wire.messages import Holder

_MAX_FELLOWS = 8
_PAUSE_S = 0.1  # between two questions to a fellow; doubled while it has nothing new
_PAUSE_MAX_S = 0.4


@dataclass(slots=True)
class _Fellow:
    """When a fellow is asked the next time."""

    ask_at_s: float
    pause_s: float = _PAUSE_S


class Fellows:
    """The fellow readers of one fetch.

    Args:
        context: the request.
        lenders: everybody that it borrows from.

    Attributes:
        spreading: which chunks this reader takes first because of them.
    """

    def __init__(self, context: FetchContext, lenders: Lenders) -> None:
        self.spreading = Spreading(context)
        self._context = context
        self._lenders = lenders
        self._by_name: dict[str, _Fellow] = {}
        self._search: Search | None = None

    def __contains__(self, instance: str) -> bool:
        return instance in self._by_name

    def begin(self) -> None:
        """From now on, who asks here for what is fetched here is noticed, if it is much."""
        core = self._context.desk.instance
        if self._search is None and self.spreading.is_long:
            self._search = core.hot.search(self._context.keys)

    def end(self) -> None:
        """The fetch is over."""
        if self._search is not None:
            self._context.desk.instance.hot.end(self._search)
            self._search = None

    def meet(self, names: Iterable[str], now_s: float) -> "list[Holder]":
        """Notes the members of these names as fellows; returns those that were none before."""
        fresh = [name for name in names if name not in self._by_name]
        if not fresh:
            return []
        room = _MAX_FELLOWS - len(self._by_name)
        met = named_peers(self._context, fresh, now_s)[: max(room, 0)]
        for holder in met:
            self._by_name[holder.instance] = _Fellow(now_s)
            self._lenders.meet(holder)
        self._context.is_sent_elsewhere = True
        self.spreading.has_fellows |= bool(met)
        return met

    def due(self, now_s: float) -> list[tuple[Borrower, tuple[int, ...]]]:
        """Returns who is to be asked now, and for what: everything that it does not lend yet."""
        if self._search is not None and self._search.names:
            self.meet(self._search.take(), now_s)
        questions: list[tuple[Borrower, tuple[int, ...]]] = []
        for name, fellow in self._by_name.items():
            borrower = self._lenders.get(name)
            if borrower is None or now_s < fellow.ask_at_s:
                continue
            fellow.ask_at_s = now_s + _PAUSE_MAX_S
            if self._context.is_usable(borrower.holder, now_s):
                borrower = self._lenders.take_back(borrower)
            if borrower.is_lost or borrower.asked_positions or now_s < borrower.retry_at_s:
                continue
            positions = self._unlent(borrower, now_s)
            if positions:
                questions.append((borrower, positions))
        return questions

    def answered(self, instance: str, num_lent: int, now_s: float) -> None:
        """A fellow has lent so many chunks that it had not lent before."""
        fellow = self._by_name.get(instance)
        if fellow is not None:
            pause_s = _PAUSE_S if num_lent else min(2 * fellow.pause_s, _PAUSE_MAX_S)
            fellow.pause_s = pause_s
            fellow.ask_at_s = now_s + pause_s

    def await_chunk(self, instance: str, position: int) -> bool:
        """Returns whether a fellow lacks a chunk that nobody said it had: it may have it soon."""
        return instance in self and instance not in self._context.chunks[position].holders

    def is_spare(self, instance: str, positions: Iterable[int]) -> bool:
        """Returns whether a fellow may be silent: other holders have all of these chunks.

        It may just have much to send; the others come first, and it is asked again.
        """
        chunks = self._context.chunks
        return instance in self and all(
            any(holder not in self for holder in chunks[position].holders) for position in positions
        )

    def deadlines_s(self) -> list[float]:
        """Returns when fellows are to be asked."""
        return [
            fellow.ask_at_s
            for name, fellow in self._by_name.items()
            if (borrower := self._lenders.get(name)) is not None and not borrower.asked_positions
        ]

    def _unlent(self, borrower: Borrower, now_s: float) -> tuple[int, ...]:
        """Returns the next wanted chunks that a fellow does not lend; gives back what it lent."""
        wanted = [chunk.position for chunk in self.spreading.next_wanted()]
        still = set(wanted)
        lent: set[int] = set()
        for grant in borrower.grants:
            if not grant.is_open or now_s >= grant.use_until_s:
                continue
            if still.isdisjoint(grant.remote_by_position):
                self._lenders.release(borrower, grant)
            lent.update(grant.remote_by_position)
        borrower.grants = [grant for grant in borrower.grants if not grant.is_released]
        return tuple(position for position in wanted if position not in lent)
