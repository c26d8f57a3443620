"""What an instance holds and lends: chunk key to slot, and which chunk goes first.

Eviction is in the order of `EvictionOrder`: spare copies first, then leaves, the least recently
used ones first. Pinned chunks (lent, or used by a fetch's caller) never go; those that operators
keep are not evicted. No I/O, no clock, no threads.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from p2p.backend.eviction import EvictionOrder
from p2p.keys import ChunkKey


@dataclass(slots=True)
class IndexEntry:
    """One chunk that is here.

    Attributes:
        key: of the chunk.
        slot: where it lies in every rank's pool.
        generation: of the slot.
        root: digest of each rank's shard.
        tenants: who may read it: those who stored or fetched it; the empty one is everybody.
        parent: key of the chunk before it, None for the first of a prompt.
        num_children: chunks here that follow it.
        num_pins: leases and fetches that need it.
        used: grows with every use.
        num_leases: how many readers are lent it.
        readers: instances that were lent it lately in a long run, the last one first.
        lent_s: when the last of those was.
        is_damaged: its bytes are not what was stored; it is pinned, but no longer found.
        num_others: other instances that held it when it was fetched.
        is_spare: it was fetched and is not kept: it goes first, even if chunks here follow it.
        kept_until_s: an operator keeps it from eviction until then; None if nobody does.
    """

    key: ChunkKey
    slot: int
    generation: int
    roots: tuple[int, ...]
    tenants: tuple[str, ...]
    parent: ChunkKey | None
    num_children: int = field(default=0)
    num_pins: int = field(default=0)
    used: int = field(default=0)
    num_leases: int = field(default=0)
    readers: tuple[str, ...] = field(default=())
    lent_s: float = field(default=float("-inf"))
    is_damaged: bool = field(default=False)
    num_others: int = field(default=0)
    is_spare: bool = field(default=False)
    kept_until_s: float | None = field(default=None)

    @property
    def can_go(self) -> bool:
        """True if nothing needs this chunk."""
        is_needed = self.num_pins > 0 or self.kept_until_s is not None
        return not is_needed and (self.num_children == 0 or self.is_spare)

    def is_readable_by(self, tenant: str) -> bool:
        """True if the entry is sound, and belongs to the tenant or to everybody."""
        return not self.is_damaged and (tenant in self.tenants or "" in self.tenants)


class Index:
    """The chunks of one instance."""

    def __init__(self) -> None:
        self._entries: dict[ChunkKey, IndexEntry] = {}
        self._children: dict[ChunkKey, int] = {}  # of every parent, here or not
        self._order = EvictionOrder(self._entries)
        self._uses = 0
        self.num_kept = 0  # chunks that operators keep

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[IndexEntry]:
        return iter(self._entries.values())

    def get(self, key: ChunkKey) -> IndexEntry | None:
        """Returns the entry of a key, without counting as a use."""
        return self._entries.get(key)

    def prefix(self, keys: Sequence[ChunkKey], tenant: str) -> list[IndexEntry]:
        """Returns the entries of the longest leading part of ``keys`` that is here."""
        found: list[IndexEntry] = []
        for key in keys:
            entry = self._entries.get(key)
            if entry is None or not entry.is_readable_by(tenant):
                break
            found.append(entry)
        return found

    def readable(self, keys: Sequence[ChunkKey], tenant: str) -> list[IndexEntry | None]:
        """Returns the entry of each key, or None where there is none for this tenant."""
        return [
            entry
            if entry is not None
            and not entry.is_damaged
            and ("" in entry.tenants or tenant in entry.tenants)
            else None
            for entry in map(self._entries.get, keys)
        ]

    def add(self, entry: IndexEntry) -> None:
        """Adds a chunk; its key must be new."""
        if entry.key in self._entries:
            raise AssertionError(f"chunk {entry.key.hex()} is indexed already")
        entry.num_children = self._children.get(entry.key, 0)
        self._entries[entry.key] = entry
        if entry.parent is not None:
            self._children[entry.parent] = self._children.get(entry.parent, 0) + 1
            parent = self._entries.get(entry.parent)
            if parent is not None:
                parent.num_children += 1
        self.touch(entry)

    def touch(self, entry: IndexEntry) -> None:
        """Marks a use now."""
        self._uses += 1
        entry.used = self._uses
        self._order.offer(entry)

    def keep(self, entry: IndexEntry) -> None:
        """A spare copy has proved its worth: it goes like any other chunk now."""
        if entry.is_spare:
            entry.is_spare = False
            self._order.offer(entry)

    def pin(self, entry: IndexEntry) -> None:
        """Keeps a chunk until as many `unpin` calls followed."""
        entry.num_pins += 1

    def unpin(self, entry: IndexEntry) -> None:
        """Takes one pin back."""
        if entry.num_pins < 1:
            raise AssertionError(f"chunk {entry.key.hex()} is not pinned")
        entry.num_pins -= 1
        self._order.offer(entry)

    def keep_until(self, entry: IndexEntry, until_s: float) -> None:
        """Exempts a chunk from eviction until `let_go`; the caller watches the time."""
        self.num_kept += entry.kept_until_s is None
        entry.kept_until_s = until_s
        entry.is_spare = False

    def let_go(self, entry: IndexEntry) -> None:
        """Takes `keep_until` back."""
        if entry.kept_until_s is not None:
            entry.kept_until_s = None
            self.num_kept -= 1
            self._order.offer(entry)

    def behind(self, keys: Iterable[ChunkKey]) -> list[IndexEntry]:
        """Returns the chunks of these keys and all that follow on any of them, last ones first."""
        followers: dict[ChunkKey, list[IndexEntry]] = {}
        for entry in self:
            if entry.parent is not None:
                followers.setdefault(entry.parent, []).append(entry)
        found: dict[ChunkKey, IndexEntry | None] = {}
        left = list(keys)
        while left:
            key = left.pop()
            if key not in found:
                found[key] = self._entries.get(key)
                left += [entry.key for entry in followers.get(key, ())]
        entries = [entry for entry in found.values() if entry is not None]
        return entries[::-1]

    @property
    def num_uses(self) -> int:
        """Grows with every use of any chunk; see `IndexEntry.used`."""
        return self._uses

    def lend(self, entries: Sequence[IndexEntry]) -> None:
        """Chunks are used and lent, and kept until they are taken back."""
        uses = self._uses
        for entry in entries:
            uses += 1
            entry.used = uses
            entry.num_pins += 1
            entry.num_leases += 1
            entry.is_spare = False  # others come here for it
        self._uses = uses

    def take_back(self, entries: Sequence[IndexEntry]) -> list[IndexEntry]:
        """A lease has ended; returns the chunks that nobody needs any more."""
        free: list[IndexEntry] = []
        for entry in entries:
            entry.num_leases -= 1
            entry.num_pins -= 1
            if not entry.num_pins:
                free.append(entry)
                if not entry.num_children:
                    self._order.offer(entry)
        return free

    def evict(self, count: int, used_before: int | None = None) -> list[IndexEntry]:
        """Removes up to ``count`` chunks that nothing needs, as `EvictionOrder` says.

        Args:
            count: how many.
            used_before: chunks whose last use was not before this are kept.
        """
        gone: list[IndexEntry] = []
        while len(gone) < count and (entry := self._order.next(used_before)) is not None:
            self.remove(entry)
            gone.append(entry)
        return gone

    def remove(self, entry: IndexEntry) -> None:
        """Removes a chunk that nobody has pinned, leaf or not."""
        if entry.num_pins:
            raise AssertionError(f"chunk {entry.key.hex()} is pinned {entry.num_pins} times")
        self.detach(entry)

    def detach(self, entry: IndexEntry) -> None:
        """Takes a chunk out, pinned or not."""
        del self._entries[entry.key]
        if entry.kept_until_s is not None:
            entry.kept_until_s = None
            self.num_kept -= 1
        if entry.parent is None:
            return
        left = self._children[entry.parent] - 1
        if left:
            self._children[entry.parent] = left
        else:
            del self._children[entry.parent]
        parent = self._entries.get(entry.parent)
        if parent is not None:
            parent.num_children -= 1
            self._order.offer(parent)

    def check_integrity(self) -> None:
        """Raises `AssertionError` if child counts or slots contradict each other."""
        slots = [entry.slot for entry in self._entries.values()]
        if len(set(slots)) != len(slots):
            raise AssertionError("two chunks share a slot")
        for entry in self._entries.values():
            if entry.is_spare and entry.num_others < 1:
                raise AssertionError(f"chunk {entry.key.hex()} is spare, and nobody else has it")
        num_kept = sum(entry.kept_until_s is not None for entry in self)
        if num_kept != self.num_kept:
            raise AssertionError(f"{num_kept} chunks are kept, {self.num_kept} counted")
        for key, count in self._children.items():
            real = sum(entry.parent == key for entry in self._entries.values())
            if real != count or (key in self._entries and self._entries[key].num_children != count):
                raise AssertionError(f"chunk {key.hex()} has {real} children, {count} counted")
