"""The chunks of one fetch: where each stands, and who may still be asked for it.

No I/O, no clock, no threads.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from p2p.backend.actions import ShortReason
from p2p.backend.index import IndexEntry
from p2p.keys import ChunkKey
from p2p.wire.messages import Located


class ChunkState(Enum):
    """Where one chunk of a fetch stands."""

    WANTED = "wanted"
    READING = "reading"
    ARRIVED = "arrived"
    HERE = "here"
    LOST = "lost"


_OPEN = frozenset({ChunkState.WANTED, ChunkState.READING, ChunkState.ARRIVED})


@dataclass(slots=True)
class WantedChunk:
    """One chunk of a fetch.

    Attributes:
        position: in the request.
        key: of the chunk.
        state: where it stands.
        holders: instances still to try, best first.
        width: so many of them are asked at the same time.
        named: instances that the directory said hold it.
        num_others: other instances that hold it, as far as is known.
        entry: of the own index, pinned, once the chunk is here.
        reason: why the last attempt failed.
        detail: names and numbers of that.
    """

    position: int
    key: ChunkKey
    state: ChunkState = ChunkState.WANTED
    holders: list[str] = field(default_factory=list)
    width: int = 1
    named: Sequence[str] = ()
    num_others: int = 1
    entry: IndexEntry | None = None
    reason: ShortReason = ShortReason.NO_HOLDER
    detail: str = ""

    @property
    def asked_holders(self) -> list[str]:
        """Those who are to be asked now."""
        return self.holders[: self.width]


class ChunkTable:
    """All chunks of one fetch.

    Args:
        keys: of the request, in order.

    Attributes:
        first: every chunk before this position is here.
        end: the first lost chunk; what lies behind it cannot become part of the prefix.
        needs_holders: somebody may have to be asked for chunks that nobody lends yet.
        is_planned: the holders of all chunks are known; before that, nothing is lost for want of
            one.
    """

    def __init__(self, keys: Sequence[ChunkKey]) -> None:
        self._chunks = [WantedChunk(position, key) for position, key in enumerate(keys)]
        self.first = 0
        self.end = len(self._chunks)
        self.needs_holders = True
        self.is_planned = False
        self._first_wanted = 0  # no chunk before it is wanted

    def __len__(self) -> int:
        return len(self._chunks)

    def __getitem__(self, position: int) -> WantedChunk:
        return self._chunks[position]

    def __iter__(self) -> Iterator[WantedChunk]:
        return iter(self._chunks)

    def wanted(self) -> Iterator[WantedChunk]:
        """Yields the chunks that nobody is reading and that can still help, in order."""
        chunks = self._chunks
        start = max(self._first_wanted, self.first)
        while start < self.end and chunks[start].state is not ChunkState.WANTED:
            start += 1
        self._first_wanted = start
        for position in range(start, self.end):
            chunk = chunks[position]
            if chunk.state is ChunkState.WANTED:
                yield chunk

    def note_named(self, located: Located, offset: int) -> None:
        """Notes whom the directory names for each chunk; it was asked from ``offset`` on."""
        for run in located.runs:
            known = [number for number in run.holders if 0 <= number < len(located.holders)]
            names = tuple(located.holders[number].instance for number in known)
            start = offset + run.start
            for chunk in self._chunks[start : start + run.count]:
                chunk.named = names

    def widen(self) -> None:
        """One more holder is asked for every wanted chunk that has another."""
        for chunk in self.wanted():
            if chunk.width < len(chunk.holders):
                chunk.width += 1
                self.needs_holders = True

    def keep(self, position: int, entry: IndexEntry) -> None:
        """The chunk is here; the caller has pinned it."""
        chunk = self._chunks[position]
        chunk.state = ChunkState.HERE
        chunk.entry = entry
        while self.first < self.end and self._chunks[self.first].state is ChunkState.HERE:
            self.first += 1

    @property
    def is_all_given_out(self) -> bool:
        """True if no chunk waits for somebody to read it."""
        return next(self.wanted(), None) is None

    def read(self, positions: Sequence[int]) -> None:
        """A read of chunks was submitted."""
        for position in positions:
            self._chunks[position].state = ChunkState.READING

    def arrived(self, positions: Sequence[int]) -> None:
        """The bytes of chunks are there; another read of the same chunk may have been first."""
        for position in positions:
            if self._chunks[position].state is ChunkState.READING:
                self._chunks[position].state = ChunkState.ARRIVED

    def is_open(self, position: int) -> bool:
        """True while a chunk can become part of the prefix and is not."""
        return self._chunks[position].state in _OPEN

    def lose(self, position: int, reason: ShortReason, detail: str) -> None:
        """The chunk is not to be had in this fetch."""
        chunk = self._chunks[position]
        chunk.state = ChunkState.LOST
        chunk.reason = reason
        chunk.detail = detail
        self.end = max(self.first, min(self.end, position))

    def lose_rest(self, reason: ShortReason, detail: str) -> None:
        """Every chunk that is not here is not to be had."""
        for chunk in self._chunks:
            if chunk.state is not ChunkState.HERE:
                self.lose(chunk.position, reason, detail)

    def revive(self) -> None:
        """What was lost may be to be had after all: the directory is asked again."""
        self.end = len(self._chunks)
        self._first_wanted = self.first
        self.is_planned = False
        self.needs_holders = True
        for chunk in self._chunks[self.first :]:
            if chunk.state is ChunkState.LOST:
                chunk.state = ChunkState.WANTED
                chunk.holders = []

    def fail(self, positions: Sequence[int], holder: str, reason: ShortReason, detail: str) -> None:
        """An attempt at a holder failed: the chunks are wanted again, from others."""
        self.needs_holders = True
        for position in positions:
            chunk = self._chunks[position]
            if chunk.state is ChunkState.HERE or chunk.state is ChunkState.LOST:
                continue
            chunk.state = ChunkState.WANTED
            self._first_wanted = min(self._first_wanted, position)
            self._strike(chunk, holder, reason, detail)

    def refuse(self, position: int, holder: str, reason: ShortReason, detail: str) -> None:
        """A holder does not have a chunk; a read of it from another one goes on."""
        chunk = self._chunks[position]
        if chunk.state is ChunkState.WANTED:
            self.needs_holders = True
            self._strike(chunk, holder, reason, detail)
        elif holder in chunk.holders:
            chunk.holders.remove(holder)

    def lent(self, position: int, holder: str) -> None:
        """A holder lends a chunk, or is said to, be it one that the directory did not name."""
        chunk = self._chunks[position]
        if chunk.state is ChunkState.WANTED and holder not in chunk.holders:
            chunk.holders.insert(0, holder)

    def lent_too(self, position: int, holder: str) -> None:
        """A fellow reader lends a chunk by now; it is not asked for it unless others are gone."""
        chunk = self._chunks[position]
        if chunk.state is ChunkState.WANTED and holder not in chunk.holders:
            chunk.holders.append(holder)

    def postpone(self, position: int, holder: str, alternates: Sequence[str]) -> None:
        """A busy holder is the last to be asked for a chunk; those that it names come first."""
        chunk = self._chunks[position]
        if chunk.state is ChunkState.WANTED and holder in chunk.holders:
            chunk.holders.sort(
                key=lambda name: 2 if name == holder else int(name not in alternates)
            )

    def cut_damaged(self) -> None:
        """The prefix ends before a chunk that proved damaged while it was pinned."""
        for chunk in self._chunks[: self.first]:
            if chunk.entry is not None and chunk.entry.is_damaged:
                chunk.reason, chunk.detail = ShortReason.DIGEST_MISMATCH, "damaged in this pool"
                self.first = self.end = chunk.position
                return

    def strike(self, holder: str, reason: ShortReason, detail: str) -> None:
        """A holder is out of question for every chunk that is still wanted."""
        self.needs_holders = True
        for chunk in self._chunks:
            if chunk.state is ChunkState.WANTED:
                self._strike(chunk, holder, reason, detail)
            elif holder in chunk.holders and chunk.state is not ChunkState.HERE:
                chunk.holders.remove(holder)

    def _strike(self, chunk: WantedChunk, holder: str, reason: ShortReason, detail: str) -> None:
        if holder in chunk.holders:
            chunk.holders.remove(holder)
            chunk.reason, chunk.detail = reason, detail
        if not chunk.holders and self.is_planned:
            why = (chunk.reason, chunk.detail) if chunk.detail else (reason, detail)
            self.lose(chunk.position, *why)
