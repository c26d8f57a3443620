"""An instance's own copy of its namespace's directory. No I/O, no clock, no threads.

It takes the controller's changes in order, on top of copies of what was there before, and answers
as the controller does. A member's view hash, which the controller lists with every report, shows
whether the copy is exact up to there; if it is not, that member is copied again.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

from p2p.changes import Changes
from p2p.group import Group
from p2p.holders import Found, find_holders
from p2p.holding import Holding
from p2p.keys import ChunkKey, InstanceId, join_keys
from p2p.layout import Layout
from p2p.wire.messages import (
    AnyChange,
    EntriesChanged,
    EntriesPage,
    Holder,
    MemberHeard,
    MemberLost,
    MemberSeen,
    StageBegun,
    StageLive,
)

_SWEEP_ENTRIES = 4096


@dataclass(slots=True, eq=False)
class CopyUnderWay:
    """A member's entries on their way.

    Attributes:
        page: that comes next.
        asked_at: the position that was known when it was wanted.
        start: position at which the copy began, 0 before that is known.
        ready_at: the position up to which changes must be known for it to be whole.
        is_whole: every page is here.
        later: positions and changes of entries since it was wanted.
    """

    holding: Holding
    asked_at: int
    page: int = 0
    start: int = 0
    ready_at: int = 0
    is_whole: bool = False
    later: list[tuple[int, EntriesChanged]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class MirrorMember:
    """A member as the controller described it; a `p2p.group.GroupMember`."""

    number: int
    registered: Holder
    layout: Layout
    live: Holding
    load_bytes: int
    last_seen_s: float
    is_silent: bool
    staged: Holding | None = None
    is_known: bool = True
    copy: CopyUnderWay | None = None

    @property
    def instance(self) -> InstanceId:
        """Its id."""
        return InstanceId(self.registered.instance)

    @property
    def is_returned(self) -> bool:
        """True if readers are sent there."""
        return not self.is_silent


class Mirror:
    """The copy.

    Args:
        counters: of everything unusual.

    Attributes:
        position: of the last change that is in it.
        num_entries: of all members, with copies and snapshots in the making.
    """

    def __init__(self, counters: Counter[str]) -> None:
        self.position = 0
        self._counters = counters
        self._group: Group[MirrorMember] = Group()
        self._by_number: dict[int, MirrorMember] = {}
        self._to_copy: deque[int] = deque()

    @property
    def num_entries(self) -> int:
        """Entries of all members, with copies and snapshots in the making."""
        members = self._by_number.values()
        staged = sum(m.staged.num_entries for m in members if m.staged is not None)
        copied = sum(m.copy.holding.num_entries for m in members if m.copy is not None)
        return staged + copied + sum(member.live.num_entries for member in members)

    @property
    def is_whole(self) -> bool:
        """True if something is known of every member's entries."""
        return all(member.is_known for member in self._by_number.values())

    def find(self, keys: Sequence[ChunkKey], tenant: str, layout: Layout, now_s: float) -> Found:
        """Returns runs and holders of the longest prefix, as the controller would."""
        return find_holders(self._group, join_keys(keys), tenant, layout, now_s)

    def entries_of(self, instance: str) -> dict[tuple[str, ChunkKey], int]:
        """Returns the tier of each tenant and key of an instance, for checks."""
        member = self._group.members.get(InstanceId(instance))
        if member is None:
            return {}
        held = self._group.directory.entries_of(member.live)
        return {(tenant, key): tier for tenant, key, tier in held}

    # ------------------------------------------------------------------ changes

    def start_over(self, position: int, seen: Sequence[AnyChange], zero_s: float) -> None:
        """Forgets everything; these are all members, whose entries are to be copied."""
        self._group = Group()
        self._by_number.clear()
        self._to_copy.clear()
        self.position = position
        for change in seen:
            if isinstance(change, MemberSeen):
                member = self._see(change, zero_s + change.at_ms / 1000)
                if change.num_entries:
                    member.is_known = False
                    self._copy(member)

    def take(self, changes: Sequence[AnyChange], zero_s: float) -> None:
        """Takes the changes after `position`.

        Args:
            changes: without gaps.
            zero_s: the time at which the controller's uptime was 0.
        """
        for change in changes:
            self.position += 1
            self._take(change, zero_s)
        for member in list(self._by_number.values()):
            self._finish(member)
        self._group.on_holders_changed()

    def sweep(self) -> bool:
        """Frees some memory of what is not seen any more; returns whether more is left."""
        self._group.directory.sweep(_SWEEP_ENTRIES)
        return self._group.directory.must_sweep

    def _take(self, change: AnyChange, zero_s: float) -> None:
        match change:
            case MemberSeen():
                self._see(change, zero_s + change.at_ms / 1000)
                return
            case MemberLost():
                self._lose(change.number)
                return
            case MemberHeard() | EntriesChanged() | StageBegun() | StageLive():
                member = self._by_number.get(change.number)
            case _:
                assert_never(change)
        if member is None:
            return
        if isinstance(change, MemberHeard):
            self._hear(member, change, zero_s)
            return
        if member.copy is not None and isinstance(change, EntriesChanged) and not change.is_staged:
            member.copy.later.append((self.position, change))
        self._apply(member, change)

    def _apply(self, member: MirrorMember, change: AnyChange) -> None:
        directory = self._group.directory
        match change:
            case EntriesChanged():
                target = member.staged if change.is_staged else member.live
                if target is not None:
                    self._put(target, change)
            case StageBegun():
                if member.staged is not None:
                    directory.discard(member.staged)
                member.staged = directory.open_holding()
            case StageLive():
                if member.staged is None:
                    self._copy(member)  # its beginning was before ours
                else:
                    self._replace(member, member.staged)
                    member.staged = None
            case _:
                pass

    def _put(self, holding: Holding, change: EntriesChanged | EntriesPage) -> None:
        changes = Changes(change.tenant, change.kinds, change.keys, change.key_bytes)
        self._group.directory.apply(holding, changes)

    def _see(self, change: MemberSeen, last_seen_s: float) -> MirrorMember:
        member = self._by_number.get(change.number)
        if member is None:
            member = MirrorMember(
                change.number,
                change.holder,
                change.layout,
                self._group.directory.open_holding(),
                change.holder.load_bytes,
                last_seen_s,
                change.is_silent,
            )
            self._by_number[change.number] = member
            self._group.members[member.instance] = member
        member.is_silent = change.is_silent
        member.last_seen_s = max(member.last_seen_s, last_seen_s)
        self._group.on_holders_changed()
        return member

    def _lose(self, number: int) -> None:
        member = self._by_number.pop(number, None)
        if member is None:
            return
        if self._group.members.get(member.instance) is member:
            del self._group.members[member.instance]
        directory = self._group.directory
        directory.discard(member.live)
        if member.staged is not None:
            directory.discard(member.staged)
        if member.copy is not None:
            directory.discard(member.copy.holding)
        self._group.on_holders_changed()

    def _hear(self, member: MirrorMember, heard: MemberHeard, zero_s: float) -> None:
        member.load_bytes = heard.load_bytes
        member.last_seen_s = max(member.last_seen_s, zero_s + heard.at_ms / 1000)
        if member.copy is None and member.live.view_hash != heard.view_hash:
            self._counters["mirror_drifts"] += 1
            self._copy(member)

    # ------------------------------------------------------------------ copies

    def next_copy(self) -> tuple[int, int, int] | None:
        """Returns member, page and start of the page to ask for, if any."""
        while self._to_copy:
            member = self._by_number.get(self._to_copy[0])
            if member is not None and member.copy is not None and not member.copy.is_whole:
                return member.number, member.copy.page, member.copy.start
            self._to_copy.popleft()
        return None

    def take_page(self, page: EntriesPage) -> None:
        """Takes a page of a member's entries."""
        member = self._by_number.get(page.number)
        copy = None if member is None else member.copy
        if member is None or copy is None or copy.is_whole or page.is_gone:
            return
        if page.start < copy.asked_at:
            return  # of an earlier copy
        if page.page == 0 and page.start != copy.start:
            self._group.directory.discard(copy.holding)
            copy.holding = self._group.directory.open_holding()
            copy.start, copy.page = page.start, 0
        if page.start != copy.start or page.page != copy.page:
            return
        self._put(copy.holding, page)
        copy.page += 1
        copy.ready_at = page.at
        copy.is_whole = page.is_last
        self._finish(member)
        self._group.on_holders_changed()

    def _copy(self, member: MirrorMember) -> None:
        if member.copy is not None:
            self._group.directory.discard(member.copy.holding)
        member.copy = CopyUnderWay(self._group.directory.open_holding(), self.position)
        self._to_copy.append(member.number)

    def _finish(self, member: MirrorMember) -> None:
        """Puts a whole copy into the place of the member's entries, with what came since."""
        copy = member.copy
        if copy is None or not copy.is_whole or self.position < copy.ready_at:
            return
        member.copy = None
        self._replace(member, copy.holding)
        for position, change in copy.later:
            if position > copy.start:
                self._put(member.live, change)

    def _replace(self, member: MirrorMember, holding: Holding) -> None:
        """Another holding has the member's entries now, all of them."""
        directory = self._group.directory
        directory.discard(member.live)
        member.live, member.is_known = holding, True
        if member.copy is not None:
            directory.discard(member.copy.holding)
            member.copy = None
        self._group.on_holders_changed()
