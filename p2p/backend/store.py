"""What one instance keeps: slots, index and event feed, always in step.

Places new chunks, evicts, shares a chunk between tenants, and drops what proved damaged. No I/O, no
clock, no threads: one caller at a time.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from p2p.agent.slots import SlotTable
from p2p.backend.feed import EventFeed
from p2p.backend.index import Index, IndexEntry
from p2p.backend.keep import DroppedCopies, is_kept
from p2p.keys import ChunkKey
from p2p.wire.messages import EventKind


@dataclass(frozen=True, slots=True)
class Placement:
    """A chunk that has a slot but no bytes yet.

    Attributes:
        position: of its key in the request.
        key: of the chunk.
        parent: key before it.
        slot: to fill.
    """

    position: int
    key: ChunkKey
    parent: ChunkKey | None
    slot: int


@dataclass(frozen=True, slots=True)
class Suspect:
    """A chunk of ours that a reader found to differ from its digest."""

    key: ChunkKey
    slot: int
    generation: int


class ChunkStore:
    """The chunks of one instance.

    Args:
        num_slots: slots of every rank's pool.
        tier: of the pool, as events name it.

    Attributes:
        counters: of everything unusual and of the work done, by name.
        suspects: chunks that readers reported as damaged.
        dropped_copies: chunks whose spare copies have gone lately.
    """

    def __init__(self, num_slots: int, tier: EventKind) -> None:
        self.slots = SlotTable(num_slots)
        self.index = Index()
        self.feed = EventFeed(tier=tier)
        self.counters: Counter[str] = Counter()
        self.suspects: deque[Suspect] = deque(maxlen=256)
        self.dropped_copies = DroppedCopies(num_slots)
        self._tier = tier

    def begin_put(self, keys: Sequence[ChunkKey], tenant: str) -> list[Placement]:
        """Returns slots for the chunks that are not here, in order, as far as there is room.

        The chunks that are here count as used and cannot be evicted for the new ones.
        """
        here = [entry for key in keys if (entry := self.index.get(key)) is not None]
        for entry in here:
            self.index.pin(entry)
        missing = [position for position, key in enumerate(keys) if self.index.get(key) is None]
        slots = self.acquire_slots(len(missing))
        self.counters["put_chunks_refused_pool_full"] += len(missing) - len(slots)
        placements = [
            Placement(position, keys[position], keys[position - 1] if position else None, slot)
            for position, slot in zip(missing, slots, strict=False)
        ]
        for entry in here:
            self.index.touch(entry)
            self._share(entry, tenant)
            self.unpin(entry)
        return placements

    def acquire_slots(self, count: int, used_before: int | None = None) -> list[int]:
        """Returns up to ``count`` slots for filling, evicting chunks that nothing needs.

        Args:
            count: how many.
            used_before: chunks whose last use was not before this are kept; see `Index.num_uses`.
        """
        short = count - self.slots.num_free
        if short > 0:
            for entry in self.index.evict(short, used_before):
                self._gone(entry)
                self.counters["evicted_chunks"] += 1
                if entry.is_spare:
                    self.counters["evicted_spare_copies"] += 1
                    self.dropped_copies.note(entry.key)
        return self.slots.acquire(count)

    def commit(
        self, placement: Placement, roots: tuple[int, ...], tenant: str, num_pins: int = 0
    ) -> IndexEntry:
        """A filled chunk becomes part of the index and is advertised.

        Args:
            placement: key and slot of the chunk.
            roots: digest of each rank's shard.
            tenant: who may read it; empty for everybody.
            num_pins: so many pins are put on it, for the caller to take back.

        Returns:
            The entry; an earlier one, if the same chunk came in by another way meanwhile.
        """
        present = self.index.get(placement.key)
        if present is not None:
            self.slots.release(placement.slot)
            self._share(present, tenant)
            present.num_pins += num_pins
            return present
        self.slots.commit(placement.slot)
        entry = IndexEntry(
            key=placement.key,
            slot=placement.slot,
            generation=self.slots.generation(placement.slot),
            roots=roots,
            tenants=(tenant,),
            parent=placement.parent,
            num_pins=num_pins,
        )
        self.index.add(entry)
        self.feed.append(self._tier, entry.key, tenant)
        return entry

    def commit_copy(
        self,
        placement: Placement,
        roots: tuple[int, ...],
        tenant: str,
        num_others: int,
        keep: str,
    ) -> IndexEntry:
        """A chunk that was read from others becomes part of the index; the caller has it pinned.

        Args:
            placement: as `commit`.
            roots: as `commit`.
            tenant: as `commit`.
            num_others: other instances that hold it.
            keep: which copies are kept; see `is_kept`.
        """
        is_new = self.index.get(placement.key) is None
        entry = self.commit(placement, roots, tenant, num_pins=1)
        if is_new:
            is_missed = entry.key in self.dropped_copies
            entry.num_others = num_others
            entry.is_spare = not is_kept(keep, num_others, is_missed=is_missed)
        return entry

    def drop(self, entry: IndexEntry) -> None:
        """Removes a chunk that nobody has pinned, and says so."""
        self.index.remove(entry)
        self._gone(entry)

    def unpin(self, entry: IndexEntry) -> None:
        """Takes a pin back; a damaged chunk goes with its last pin."""
        self.index.unpin(entry)
        if entry.is_damaged and entry.num_pins == 0:
            self.slots.release(entry.slot)

    def clear(self) -> int:
        """Drops every chunk that nobody has pinned and returns how many those were."""
        entries = [entry for entry in self.index if entry.num_pins == 0]
        for entry in entries:
            self.drop(entry)
        return len(entries)

    def take_suspects(self) -> list[Suspect]:
        """Returns the chunks that readers reported since the last call."""
        suspects = list(self.suspects)
        self.suspects.clear()
        return suspects

    def pin_suspect(self, suspect: Suspect) -> IndexEntry | None:
        """Pins a reported chunk for examination; None if it is not what was reported any more."""
        entry = self.index.get(suspect.key)
        if entry is None or (entry.slot, entry.generation) != (suspect.slot, suspect.generation):
            return None
        self.index.pin(entry)
        return entry

    def judge_suspect(self, entry: IndexEntry, roots: tuple[int, ...]) -> bool:
        """Unpins an examined chunk; a damaged one is lent no more. Returns whether it was."""
        if roots != entry.roots and not entry.is_damaged:
            entry.is_damaged = True
            self.index.detach(entry)
            self._tell_gone(entry)
            self.counters["damaged_chunks"] += 1
        self.unpin(entry)
        return entry.is_damaged

    def check_integrity(self) -> None:
        """Raises `AssertionError` if slots, index and leases contradict each other."""
        self.slots.check_integrity()
        self.index.check_integrity()
        for entry in self.index:
            if entry.generation != self.slots.generation(entry.slot):
                raise AssertionError(f"chunk {entry.key.hex()} has an old generation")

    # ------------------------------------------------------------------ parts

    def _share(self, entry: IndexEntry, tenant: str) -> None:
        """A chunk that is here is stored again, for somebody who could not read it before."""
        if tenant in entry.tenants or "" in entry.tenants:
            return
        if tenant:
            entry.tenants = (*entry.tenants, tenant)
        else:
            self._tell_gone(entry)
            entry.tenants = ("",)
        self.feed.append(self._tier, entry.key, tenant)

    def _gone(self, entry: IndexEntry) -> None:
        self.slots.release(entry.slot)
        self._tell_gone(entry)

    def _tell_gone(self, entry: IndexEntry) -> None:
        for tenant in entry.tenants:
            self.feed.append(EventKind.EVICT, entry.key, tenant)
