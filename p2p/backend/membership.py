"""The instance's side of its bond with the controller: register, report, repair.

A state machine: `poll` returns the requests that are due, `on_answer` takes what came back. All
events reach the directory exactly once in effect: they are sent in order with a window, again
after silence, and from a snapshot where the log is gone or the controller is new.
No I/O, no clock, no threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import msgspec

from p2p.backend.feed import EventFeed, Snapshot
from p2p.backend.fetch_log import FetchLog
from p2p.backend.index import Index
from p2p.backend.roster import Roster
from p2p.wire.messages import (
    MAX_PAGES_UNDER_WAY,
    ControllerReply,
    Deregister,
    EventKind,
    Events,
    FeedStatus,
    Heartbeat,
    ListPeers,
    Message,
    Order,
    OrderResult,
    PeerList,
    Refusal,
    RefusalCode,
    Register,
    Registered,
    SnapshotPage,
    SnapshotTurn,
    Want,
)

MAX_BATCH_EVENTS = 4096


_SILENT_AFTER = 2  # unanswered questions
_MAX_OVER = 4096
_MAX_BEATS = 64


class BondState(Enum):
    """How we stand with the controller."""

    ALONE = "alone"
    REGISTERING = "registering"
    BONDED = "bonded"
    FENCED = "fenced"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class BondLimits:
    """Timing and windows.

    Attributes:
        retry_s: an unanswered request is repeated after this.
        window: batches or pages under way at a time.
        peers_age_s: a list of members that the controller has not confirmed for so long is useless.
    """

    retry_s: float = 0.5
    window: int = 4
    peers_age_s: float = 300.0


class Membership:
    """Keeps the directory's picture of one instance true.

    Args:
        identity: what to register, with the incarnation.
        index: what is here.
        feed: what the directory must be told.
        kind: tier of the pool.
        limits: timing.
    """

    def __init__(  # noqa: PLR0915  (one line for each field)
        self,
        identity: Register,
        index: Index,
        feed: EventFeed,
        kind: EventKind,
        limits: BondLimits | None = None,
    ) -> None:
        self.identity = identity
        self.state = BondState.ALONE
        self.refusal: Refusal | None = None
        self.epoch = 0
        self.num_registrations = 0
        self.acked_seq = 0
        self.num_unanswered = 0
        self._limits = limits or BondLimits()
        self.roster = Roster(self._limits.peers_age_s, self._limits.retry_s)
        self.fetch_log = FetchLog()
        self._index = index
        self._feed = feed
        self._kind = kind
        self._heartbeat_s = 1.0
        self._was_bonded = False
        self._sent_seq = 0
        self._snapshot: Snapshot | None = None
        self._num_syncs = 0
        self._next_page = 0
        self._num_synced = 0
        self._pages_allowed = MAX_PAGES_UNDER_WAY
        self._has_asked_turn = False
        self._register_at_s = 0.0
        self._expiry_s = 1.0
        self._num_beats = 0
        self._beats: dict[int, float] = {}  # when the last unanswered heartbeats were sent
        self._beat_at_s = 0.0
        self._resend_at_s: float | None = None
        self._orders: dict[int, Order] = {}
        self._done: dict[int, OrderResult] = {}
        self._over: dict[int, OrderResult] = {}  # of orders that are named no more; bounded
        self.is_leaving = False
        self.has_leave_news = False
        self._is_leave_known = False

    # ------------------------------------------------------------------ what to do next

    def poll(self, now_s: float, load_bytes: int) -> list[Message]:
        """Returns the requests to send now."""
        if self.state in {BondState.FENCED, BondState.REFUSED}:
            return []
        if self.state is not BondState.BONDED:
            return self._register(now_s)
        messages: list[Message] = []
        if self._resend_at_s is not None and now_s >= self._resend_at_s:
            self._rewind()
        if self._snapshot is not None:
            messages.extend(self._pages(self._snapshot) or self._turn())
        else:
            messages.extend(self._batches())
        if messages:
            self._resend_at_s = now_s + self._limits.retry_s
        if now_s >= self._beat_at_s:
            self._beat_at_s = now_s + self._heartbeat_s
            self.num_unanswered += 1
            messages.append(self._heartbeat(load_bytes, now_s))
            messages.extend(self.fetch_log.messages(self.identity, self.epoch, now_s))
        if self.roster.ask(now_s):
            identity = self.identity
            messages.append(ListPeers(instance=identity.instance, incarnation=identity.incarnation))
        return messages

    def next_deadline_s(self, now_s: float) -> float:
        """Returns when `poll` has something to do even if nothing happens."""
        if self.state is BondState.BONDED:
            due_s = self._beat_at_s
            return due_s if self._resend_at_s is None else min(due_s, self._resend_at_s)
        if self.state in {BondState.FENCED, BondState.REFUSED}:
            return now_s + 60.0
        return self._register_at_s

    def is_advertised(self) -> bool:
        """True if the directory knows every change up to now."""
        bonded = self.state is BondState.BONDED and self._snapshot is None
        return bonded and self.acked_seq >= self._feed.last_seq

    def open_orders(self) -> list[Order]:
        """Returns orders of the controller that are not yet carried out."""
        return list(self._orders.values())

    def order_done(self, result: OrderResult) -> None:
        """Reports what became of an order, from the next heartbeat on, which is due now."""
        self._orders.pop(result.id, None)
        self._done[result.id] = result
        self._beat_at_s = 0.0

    def leave(self) -> None:
        """From the next heartbeat on, which is due now, others are asked instead of us."""
        if not self.is_leaving:
            self.is_leaving = self.has_leave_news = True
            self._beat_at_s = 0.0

    def is_leave_known(self) -> bool:
        """True if the directory names us to nobody any more, or cannot be told."""
        is_heard = self.state is BondState.BONDED and not self.seems_silent
        return self._is_leave_known or not is_heard

    @property
    def seems_silent(self) -> bool:
        """True if the controller has left the last questions unanswered."""
        return self.num_unanswered >= _SILENT_AFTER

    def farewell(self, now_s: float) -> list[Message]:
        """Returns what ends the bond: the last reports, and the message that does it."""
        identity = self.identity
        leave = Deregister(instance=identity.instance, incarnation=identity.incarnation)
        if self.state is not BondState.BONDED:
            return [leave]
        return [*self.fetch_log.messages(identity, self.epoch, now_s), leave]

    # ------------------------------------------------------------------ what came back

    def on_answer(self, message: ControllerReply, now_s: float) -> None:
        """Takes an answer of the controller."""
        match message:
            case Registered():
                self._on_registered(message)
            case FeedStatus():
                self._on_status(message, now_s)
            case PeerList():
                if message.epoch == self.epoch:
                    self.roster.take(message, now_s)
            case Refusal():
                self._on_refusal(message)
            case _:
                pass

    def _on_registered(self, message: Registered) -> None:
        if self.state is not BondState.REGISTERING:
            return  # an answer to a repeated question
        self.state = BondState.BONDED
        self.num_registrations += 1
        self._was_bonded = True
        self.num_unanswered = 0
        self.epoch = message.epoch
        self.fetch_log.rewind()
        self._heartbeat_s = message.heartbeat_ms / 1000
        self._pages_allowed = message.pages
        self._expiry_s = message.expiry_ms / 1000
        self._beat_at_s = 0.0
        self._snapshot = None
        self._resend_at_s = None
        self._sent_seq = self.acked_seq = 0
        if self._feed.last_seq:
            self._start_snapshot()

    def _on_status(self, status: FeedStatus, now_s: float) -> None:
        self.num_unanswered = 0
        if status.want is Want.REGISTER or status.epoch != self.epoch:
            self._lose_bond()
            return
        self.roster.on_status(status, now_s)
        self._on_allowed(status.pages)
        self._is_leave_known = status.is_leaving
        sent_s = self._beats.pop(status.beat, float("-inf"))
        if status.orders is not None and now_s <= sent_s + self._expiry_s:
            self._on_orders(status.orders)
        before = (self.acked_seq, self._num_synced)
        if self._snapshot is not None:
            self._on_synced(self._snapshot, status)
        else:
            self._on_acked(status)
        if self._is_all_acked():
            self._resend_at_s = None
        elif self._resend_at_s is not None and (self.acked_seq, self._num_synced) != before:
            self._resend_at_s = now_s + self._limits.retry_s  # an answer alone is no progress

    def _on_allowed(self, num_pages: int) -> None:
        """So many pages may be under way; with none, a turn has to be asked for."""
        if num_pages:
            self._has_asked_turn = False
        self._pages_allowed = num_pages

    def _on_orders(self, orders: Sequence[Order]) -> None:
        """What is not named any more was reported, or taken back.

        (An answer that was under way for so long that we seemed silent is not looked at: its orders
        may have been taken back meanwhile.)
        """
        wanted = {order.id: order for order in orders}
        self._over.update(self._done)
        self._done = {id_: self._over.pop(id_) for id_ in wanted if id_ in self._over}
        while len(self._over) > _MAX_OVER:
            del self._over[next(iter(self._over))]
        self._orders = {id_: order for id_, order in wanted.items() if id_ not in self._done}

    def _on_synced(self, snapshot: Snapshot, status: FeedStatus) -> None:
        if status.sync != snapshot.sync:
            return  # of an earlier snapshot, or none of this one has arrived
        if status.want is Want.SNAPSHOT:  # the controller lost a part that it had confirmed
            self._start_snapshot()
            return
        self._num_synced = max(self._num_synced, status.synced_page + 1)
        if self._num_synced == snapshot.num_pages:
            self._snapshot = None
            self.acked_seq = max(snapshot.start_seq, status.acked_seq)
            self._sent_seq = self.acked_seq
            self._feed.acknowledge(self.acked_seq)

    def _on_acked(self, status: FeedStatus) -> None:
        if status.acked_seq > self.acked_seq:
            self.acked_seq = status.acked_seq
            self._feed.acknowledge(status.acked_seq)
        if status.want is Want.SNAPSHOT:
            self._start_snapshot()
        elif status.want is Want.REPLAY:
            self._sent_seq = status.acked_seq
            if not self._feed.has_after(status.acked_seq):
                self._start_snapshot()

    def _on_refusal(self, refusal: Refusal) -> None:
        if refusal.code is RefusalCode.STALE_INCARNATION:
            if self._was_bonded:
                self.state = BondState.FENCED
                self.refusal = refusal
            else:
                self._outrun(refusal)
        elif refusal.code is RefusalCode.UNKNOWN_INSTANCE:
            self._lose_bond()
        elif self.state is BondState.REGISTERING:
            self.state = BondState.REFUSED
            self.refusal = refusal

    def _outrun(self, refusal: Refusal) -> None:
        """At our first start an older number means that our clock was set back: go beyond."""
        if refusal.ours.isdigit():
            beyond = int(refusal.ours) + 1
            self.identity = msgspec.structs.replace(self.identity, incarnation=beyond)
        self.state = BondState.ALONE
        self._register_at_s = 0.0

    # ------------------------------------------------------------------ parts

    def _register(self, now_s: float) -> list[Message]:
        if now_s < self._register_at_s:
            return []
        self.state = BondState.REGISTERING
        self._register_at_s = now_s + self._limits.retry_s
        self.num_unanswered += 1
        return [self.identity]

    def _lose_bond(self) -> None:
        if self.state is BondState.BONDED:
            self.state = BondState.ALONE
            self._register_at_s = 0.0

    def _is_all_acked(self) -> bool:
        return self._snapshot is None and self.acked_seq >= self._sent_seq

    def _rewind(self) -> None:
        """Nothing came back for too long: send again what was not acknowledged."""
        self._resend_at_s = None
        self._has_asked_turn = False
        self._next_page = self._num_synced
        if self._snapshot is None:
            self._sent_seq = self.acked_seq
            if not self._feed.has_after(self.acked_seq):
                self._start_snapshot()

    def _start_snapshot(self) -> None:
        self._num_syncs += 1
        self._next_page = self._num_synced = 0
        self._snapshot = Snapshot(self._num_syncs, self._feed.last_seq, self._index, self._kind)

    def _turn(self) -> list[Message]:
        """Asks for a turn to send the snapshot, if there is none; again after silence."""
        if self._pages_allowed or self._has_asked_turn:
            return []
        self._has_asked_turn = True
        own = self.identity
        turn = SnapshotTurn(instance=own.instance, incarnation=own.incarnation, epoch=self.epoch)
        return [turn]

    def _pages(self, snapshot: Snapshot) -> list[Message]:
        pages: list[Message] = []
        allowed = min(self._limits.window, self._pages_allowed)
        limit = min(snapshot.num_pages, self._num_synced + allowed)
        while self._next_page < limit:
            page = snapshot.page(self._next_page)
            self._next_page += 1
            pages.append(
                SnapshotPage(
                    instance=self.identity.instance,
                    incarnation=self.identity.incarnation,
                    epoch=self.epoch,
                    sync=snapshot.sync,
                    start_seq=snapshot.start_seq,
                    page=page.first,
                    last=self._next_page == snapshot.num_pages,
                    kinds=page.kinds,
                    keys=page.keys,
                    key_bytes=page.key_bytes,
                    tenant=page.tenant,
                )
            )
        return pages

    def _batches(self) -> list[Message]:
        batches: list[Message] = []
        limit = self.acked_seq + self._limits.window * MAX_BATCH_EVENTS
        while self._sent_seq < min(self._feed.last_seq, limit):
            batch = self._feed.batch_after(self._sent_seq, MAX_BATCH_EVENTS)
            if batch is None:  # the log was cut: only a snapshot can repair that
                self._start_snapshot()
                break
            self._sent_seq += len(batch.kinds)
            batches.append(
                Events(
                    instance=self.identity.instance,
                    incarnation=self.identity.incarnation,
                    epoch=self.epoch,
                    first_seq=batch.first,
                    kinds=batch.kinds,
                    keys=batch.keys,
                    key_bytes=batch.key_bytes,
                    tenant=batch.tenant,
                )
            )
        return batches

    def _heartbeat(self, load_bytes: int, now_s: float) -> Heartbeat:
        self.has_leave_news = False
        self._num_beats += 1
        self._beats[self._num_beats] = now_s
        self._beats.pop(self._num_beats - _MAX_BEATS, None)
        return Heartbeat(
            instance=self.identity.instance,
            incarnation=self.identity.incarnation,
            epoch=self.epoch,
            last_seq=self._feed.last_seq,
            view_hash=self._feed.view_hash,
            num_chunks=len(self._index),
            load_bytes=load_bytes,
            orders_done=tuple(self._done.values()),
            num_pinned=self._index.num_kept,
            is_leaving=self.is_leaving,
            beat=self._num_beats,
        )
