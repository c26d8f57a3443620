"""What the controller knows, and what several operations do with it. No I/O, no clock.

An operation takes this state, a message and the time, changes the state and returns the answer.
"""

import itertools
from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

from p2p.group import holder_of
from p2p.keys import InstanceId
from p2p.wire.messages import (
    CopyEntries,
    Events,
    FeedStatus,
    FetchReports,
    Follow,
    Heartbeat,
    MemberLost,
    MemberSeen,
    Refusal,
    RefusalCode,
    SnapshotPage,
    SnapshotTurn,
    Want,
)
from p2p_controller.evidence import Evidence, GoneKind
from p2p_controller.handling import HandlingTimes
from p2p_controller.losses import Losses
from p2p_controller.members import Member, Members
from p2p_controller.orders import Orders
from p2p_controller.settings import ControllerSettings
from p2p_controller.turns import Turns

if TYPE_CHECKING:
    from p2p.keys import NamespaceId
    from p2p_controller.namespaced import Namespaced

FromMember: TypeAlias = (
    Heartbeat | Events | SnapshotPage | SnapshotTurn | Follow | CopyEntries | FetchReports
)
_RECOVERY_LIMIT = 6
_LOG_LIMIT = 200


class ControllerState:
    """Members, directories, orders and counters of one epoch.

    Args:
        settings: how the controller runs.
        epoch: number of this start, different from that of any other.
    """

    def __init__(self, settings: ControllerSettings, epoch: int) -> None:
        self.settings = settings
        self.epoch = epoch
        self.counters: Counter[str] = Counter()
        self.times = HandlingTimes()
        self.members = Members(settings.silent_after_s, settings.forget_after_s, self.counters)
        self.groups: dict[NamespaceId, Namespaced] = {}
        self.numbers = itertools.count(1)
        self.orders = Orders(epoch, self.counters)
        self.turns = Turns(settings.snapshot_pages, settings.silent_after_s, self.counters)
        self.copy_turns = Turns(settings.snapshot_pages, settings.silent_after_s, self.counters)
        self.copies_wanted: dict[Member, CopyEntries] = {}  # by those who wait for a turn
        self.evidence = Evidence()
        self.losses = Losses(self.evidence)
        self.started_s: float | None = None
        self.is_shutting_down = False
        self._has_recovered = False

    def uptime_s(self, now_s: float) -> float:
        """Returns the time since the first call."""
        return 0.0 if self.started_s is None else max(0.0, now_s - self.started_s)

    def is_partial(self, now_s: float) -> bool:
        """Returns whether a miss may be due to a restart.

        True for ``recovery_s`` after a start, since instances that are not back yet hold chunks,
        then until every instance that is alive was in step once; at most six times as long, so
        that one instance that never gets there does not spoil the answer for all. Then never
        again: who joins later brings new entries and hides none.
        """
        if not self._has_recovered:
            up_s, grace_s = self.uptime_s(now_s), self.settings.recovery_s
            self._has_recovered = up_s >= grace_s and (
                up_s >= grace_s * _RECOVERY_LIMIT
                or all(member.feed.is_synced for member in self.members.alive())
            )
        return not self._has_recovered

    def expire(self, now_s: float) -> None:
        """Lets time pass: members fall silent and are forgotten."""
        if now_s < self.members.next_deadline_s():
            return
        if self.started_s is None:
            self.started_s = now_s
        silent, forgotten = self.members.expire(now_s)
        for member in silent:
            self.evidence.note_gone(member, GoneKind.SILENT, now_s)
            self.on_liveness(member)
            self.orders.on_silent(member)
        for member in forgotten:
            self.evidence.note_gone(member, GoneKind.FORGOTTEN, now_s)
            self.remove(member)

    def remove(self, member: Member) -> None:
        """Removes a member with its entries."""
        self.members.remove(member)
        group = self.groups[member.namespace_id]
        del group.members[member.instance]
        member.feed.close()
        group.log.add(MemberLost(number=member.number))
        group.log.leave(member.instance)
        group.copies.end(member.instance)
        self.turns.end(member)
        self.copy_turns.end(member)
        self.copies_wanted.pop(member, None)
        group.on_members_changed()

    def sweep(self, num_entries_max: int, now_s: float) -> None:
        """Frees some of the memory of entries that nobody sees any more."""
        if self.losses:  # one or the other, so that no tick is longer for it
            self.losses.look(self.members.by_id, now_s)
            return
        for namespace_id, group in list(self.groups.items()):
            if group.directory.must_sweep:
                group.directory.sweep(num_entries_max)
            if group.is_unused:
                del self.groups[namespace_id]

    @property
    def must_sweep(self) -> bool:
        """True if `sweep` has something to do."""
        return bool(self.losses) or any(
            group.is_unused or group.directory.must_sweep for group in self.groups.values()
        )

    def recognise(self, message: FromMember, now_s: float) -> Member | FeedStatus | Refusal:
        """Returns the member that sent a message, or the answer if it may not be taken.

        Any message of a member's own incarnation is a sign of life.
        """
        member = self.members.by_id.get(InstanceId(message.instance))
        if member is None or message.incarnation > member.incarnation:
            self.counters["unregistered"] += 1
            return FeedStatus(epoch=self.epoch, acked_seq=0, want=Want.REGISTER)
        if message.incarnation < member.incarnation:
            return self.refuse_stale(member.incarnation, message.incarnation)
        if self.members.touch(member, now_s):
            self.on_liveness(member)
        self.groups[member.namespace_id].on_heard(member)
        if message.epoch != self.epoch:
            self.counters["other_epoch"] += 1
            return self.status_of(member)
        return member

    def seen(self, member: Member) -> MemberSeen:
        """Returns how a log names a member."""
        return MemberSeen(
            number=member.number,
            holder=holder_of(member, member.last_seen_s),
            layout=member.layout,
            is_silent=not member.is_returned,
            view_hash=member.live.view_hash,
            num_entries=member.live.num_entries,
            at_ms=int(self.uptime_s(member.last_seen_s) * 1000),
        )

    def on_liveness(self, member: Member) -> None:
        """A member fell silent, or is heard again."""
        group = self.groups[member.namespace_id]
        group.on_members_changed()
        group.log.add(self.seen(member))

    def refuse_stale(self, ours: int, theirs: int) -> Refusal:
        """Returns the answer to an incarnation that was followed by a newer one."""
        self.counters["stale_incarnation"] += 1
        code = RefusalCode.STALE_INCARNATION
        return Refusal(code=code, field="incarnation", ours=str(ours), theirs=str(theirs))

    def refuse_malformed(self, field: str, reason: str) -> Refusal:
        """Returns the answer to a message that decodes but cannot be meant."""
        self.counters["malformed"] += 1
        return Refusal(code=RefusalCode.MALFORMED, field=field, ours=reason[:_LOG_LIMIT])

    def status_of(self, member: Member) -> FeedStatus:
        """Returns the answer to whatever a member sent."""
        feed = member.feed
        return FeedStatus(
            epoch=self.epoch,
            acked_seq=feed.acked_seq,
            want=feed.want(),
            sync=feed.sync,
            synced_page=feed.synced_page,
            peers=self.groups[member.namespace_id].version,
            pages=self.turns.pages_of(member),
            is_leaving=member.is_leaving,
        )
