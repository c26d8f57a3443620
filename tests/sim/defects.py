"""Deliberate defects: each breaks the production code in one place, and a seed must find it.

`tests.sim.search` looks for such seeds on demand; CI replays those that were recorded.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest

from p2p.backend import lease_messages
from p2p.backend.borrowing import Borrowing
from p2p.backend.errands import Errands
from p2p.backend.feed import EventFeed
from p2p.backend.fetch import Fetch
from p2p.backend.hot import HotChunks
from p2p.backend.index import Index, IndexEntry
from p2p.backend.instance import InstanceCore
from p2p.backend.leases import LeaseTable
from p2p.backend.lenders import Lenders
from p2p.backend.membership import Membership
from p2p.backend.parting import Partings
from p2p.backend.pins import Pins
from p2p.backend.readings import Readings
from p2p.wire.messages import EventKind, LeaseRelease
from p2p_controller.feed import Feed
from p2p_controller.members import Members
from p2p_controller.operation import Operation
from tests.sim.run import run_seed

Patch = pytest.MonkeyPatch


def no_verification(patch: Patch) -> None:
    """Whatever arrived counts as what was stored."""

    def accept(self, read_id, roots, now_s, check=Fetch.on_verified):
        reading = self._readings[read_id]
        check(self, read_id, [reading.grant.roots_by_position[p] for p in reading.positions], now_s)

    patch.setattr(Fetch, "on_verified", accept)


def lease_clock_starts_at_the_answer(patch: Patch) -> None:
    """The reader counts from when the lease arrived, not from when it asked."""

    def on_answer(self, tag, answer, now_s, take=Fetch.on_answer):
        borrower = self._borrowing._asked.get(tag)
        if borrower is not None:
            borrower.asked_s = now_s
        take(self, tag, answer, now_s)

    patch.setattr(Fetch, "on_answer", on_answer)


def late_read_accepted(patch: Patch) -> None:
    """A read counts whenever it ended."""

    def on_read_done(self, read_id, now_s, done=Fetch.on_read_done):
        self._readings[read_id].grant.use_until_s = now_s
        done(self, read_id, now_s)

    patch.setattr(Fetch, "on_read_done", on_read_done)


def renewal_counts_before_its_answer(patch: Patch) -> None:
    """The reader believes in a renewal that it has only asked for."""

    def renew(self, now_s, ask=Borrowing.renew):
        ask(self, now_s)
        for grant, asked_s in self._renewals._open.values():
            grant.use_until_s = max(grant.use_until_s, asked_s + 0.5)

    patch.setattr(Borrowing, "renew", renew)


def released_while_reading(patch: Patch) -> None:
    """A lease is given back although reads under it are under way."""

    def release(self, borrower, grant, give=Lenders.release):
        grant.num_reading, kept = 0, grant.num_reading
        give(self, borrower, grant)
        grant.num_reading = kept

    patch.setattr(Lenders, "release", release)


def reuse_before_quiescence(patch: Patch) -> None:
    """Slots of a given-up read are free at once."""

    def give_up(self, reading, now_s, keep=Readings.give_up):
        keep(self, reading, now_s)
        for slot in reading.slots:
            self._context.desk.instance.slots.release(slot)
        reading.slots = ()

    patch.setattr(Readings, "give_up", give_up)


def quarantine_forever(patch: Patch) -> None:
    """Slots never leave quarantine."""
    patch.setattr(Fetch, "on_quiesced", lambda self, read_id: None)


def budget_ignored(patch: Patch) -> None:
    """A fetch goes on as long as it likes."""
    late = property(lambda self: self._context.deadline_s + 10)
    patch.setattr(Fetch, "deadline_s", late)


def reader_not_fenced(patch: Patch) -> None:
    """Leases of a reader's earlier starts go on."""
    patch.setattr(LeaseTable, "fence", lambda self, reader: [])


def old_start_not_fenced(patch: Patch) -> None:
    """The controller takes in an older start of an instance."""
    patch.setattr(Members, "newest_incarnation", lambda self, instance: -1)


def any_start_may_release(patch: Patch) -> None:
    """A holder does not look whose lease a token names."""

    def on_release(self, message: LeaseRelease, now_s, end=InstanceCore._on_release):
        for lease in list(self.leases._leases.values()):
            if lease.token == message.token or lease.reader.instance != message.instance:
                self._end(self.leases._leases.pop(lease.token))
        return end(self, message, now_s)

    patch.setattr(InstanceCore, "_on_release", on_release)


def leases_never_end(patch: Patch) -> None:
    """Deadlines of leases are not watched."""
    patch.setattr(LeaseTable, "expire", lambda self, now_s: [])


def forgotten_pins(patch: Patch) -> None:
    """What was lent stays pinned."""
    patch.setattr(InstanceCore, "_end", lambda self, lease: None)


def lent_chunks_evicted(patch: Patch) -> None:
    """Eviction does not look at pins."""

    def remove(self, entry, take=Index.remove):
        entry.num_pins, kept = 0, entry.num_pins
        take(self, entry)
        entry.num_pins = kept

    patch.setattr(IndexEntry, "can_go", property(lambda self: self.num_children == 0))
    patch.setattr(Index, "remove", remove)


def no_generation_check(patch: Patch) -> None:
    """Lent slots were reused, by whatever accident, and a lease of them is renewed all the same."""
    lent_chunks_evicted(patch)
    patch.setattr(InstanceCore, "_is_unchanged", lambda self, token: True)


def tenants_mixed(patch: Patch) -> None:
    """Everybody may read everything."""
    patch.setattr(IndexEntry, "is_readable_by", lambda self, tenant: not self.is_damaged)


def damage_ignored(patch: Patch) -> None:
    """A chunk that readers found damaged is lent again and again."""
    patch.setattr(InstanceCore, "judge_suspect", lambda self, entry, roots: self.unpin(entry))


def evictions_untold(patch: Patch) -> None:
    """The directory is not told what went."""

    def append(self, kind, key, tenant, tell=EventFeed.append):
        if kind is not EventKind.EVICT:
            tell(self, kind, key, tenant)

    patch.setattr(EventFeed, "append", append)


def any_answer_is_progress(patch: Patch) -> None:
    """Every answer of the controller puts off sending again what was lost."""

    def on_status(self, status, now_s, take=Membership._on_status):
        take(self, status, now_s)
        if self._resend_at_s is not None:
            self._resend_at_s = now_s + self._limits.retry_s

    patch.setattr(Membership, "_on_status", on_status)


def gaps_ignored(patch: Patch) -> None:
    """Events behind a gap are applied as if nothing were missing."""

    def take_events(self, events, take=Feed.take_events):
        self.acked_seq = max(self.acked_seq, events.first_seq - 1)
        take(self, events)

    patch.setattr(Feed, "take_events", take_events)


def failed_copy_takes_the_other_along(patch: Patch) -> None:
    """Where one of two copies fails, its chunks are wanted again although the other goes on."""

    def miss(self, reading, positions, reason, detail):
        self._context.chunks.fail(positions, reading.name, reason, detail)

    patch.setattr(Readings, "miss", miss)


def read_twice_without_limit(patch: Patch) -> None:
    """Every late chunk is read a second time."""
    patch.setattr(Readings, "_hedges_max", lambda self: len(self._context.keys))


def taken_over_unseen(patch: Patch) -> None:
    """A peer says that it has all that it was asked to take over, whatever arrived."""

    def answer(self, plea, num_chunks, *, is_full, tell=InstanceCore.answer_plea):
        tell(self, plea, len(plea.request.keys) // plea.request.key_bytes, is_full=is_full)

    patch.setattr(InstanceCore, "answer_plea", answer)


def sent_elsewhere_forever(patch: Patch) -> None:
    """Who was sent to other readers is sent there again, however long it waits."""
    patch.setattr(lease_messages, "_is_urgent", lambda context, now_s: False)
    patch.setattr(HotChunks, "_is_forgotten", lambda self, entry, now_s: False)


def part_moved(patch: Patch) -> None:
    """The sources of a move are told to drop chunks whatever the target has."""
    patch.setattr(Operation, "is_complete", property(lambda self: True))


def moved_blindly(patch: Patch) -> None:
    """The target of a move may evict at once what it took, and its sources do not care."""

    def part(self, parting, asked, answer, now_s):
        self._drop(asked.keys)
        parting.waiting = []

    patch.setattr(Partings, "_on_grant", part)

    def hold(self, entries, until_s):
        for entry in entries:
            self._core.unpin(entry)
            if entry.can_go:
                self._core.drop(entry)

    patch.setattr(Errands, "hold", hold)


def pinned_forever(patch: Patch) -> None:
    """Operators' pins do not end when their time is over."""
    patch.setattr(Pins, "expire", lambda self, now_s: None)


@dataclass(frozen=True)
class Defect:
    """A defect, and what its finding says.

    Attributes:
        install: breaks the production code.
        problems: one of these must be part of what the run reports.
    """

    install: Callable[[Patch], None]
    problems: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of its function."""
        return self.install.__name__

    def find(self, seeds: Iterable[int]) -> int | None:
        """Returns the first of some seeds that finds the defect."""
        with pytest.MonkeyPatch.context() as patch:
            self.install(patch)
            for seed in seeds:
                found = run_seed(seed).problem
                if any(problem in found for problem in self.problems):
                    return seed
        return None


_LATE = ("ended after its lease",)
DEFECTS = (
    Defect(no_verification, ("wrong bytes were committed",)),
    Defect(lease_clock_starts_at_the_answer, _LATE),
    Defect(late_read_accepted, _LATE),
    Defect(renewal_counts_before_its_answer, _LATE),
    Defect(released_while_reading, _LATE),
    Defect(reuse_before_quiescence, ("while a transfer may write it", "another may write")),
    Defect(quarantine_forever, ("has unfinished fetches", "has quarantine left")),
    Defect(budget_ignored, ("outlived its budget",)),
    Defect(reader_not_fenced, ("outlived its reader's fencing",)),
    Defect(old_start_not_fenced, ("took its place",)),
    Defect(any_start_may_release, (*_LATE, "is not pinned")),
    Defect(leases_never_end, ("still lends",)),
    Defect(forgotten_pins, ("lost a pin", "left the index", "cannot fetch")),
    Defect(lent_chunks_evicted, ("left the index", "is not its own", "is not pinned")),
    Defect(no_generation_check, ("renewed although",)),
    Defect(tenants_mixed, ("of another tenant",)),
    Defect(damage_ignored, ("cannot fetch",)),
    Defect(evictions_untold, ("picture of", "drifted apart")),
    Defect(any_answer_is_progress, ("is not advertised",)),
    Defect(gaps_ignored, ("drifted apart", "picture of")),
    Defect(failed_copy_takes_the_other_along, ("was being read", "read twice")),
    Defect(read_twice_without_limit, ("read twice",)),
    Defect(taken_over_unseen, ("never arrived",)),
    Defect(sent_elsewhere_forever, ("cannot fetch",)),
    Defect(part_moved, ("a part of a prompt was moved",)),
    Defect(moved_blindly, ("target of a move has lost", "new holder does not keep")),
    Defect(pinned_forever, ("for longer than it was told",)),
)
