"""One instance's stream of index changes: acknowledging, waiting out gaps, taking snapshots.

Every event up to ``acked_seq`` is in the live holding. Events behind a gap are kept (bounded) and
not applied. A snapshot is taken page by page into a staged holding; events after its start are
applied to the live holding and, when it is complete, replayed onto the staged one, which then
takes the live one's place. What is not acknowledged the instance still has. No I/O, no clock.
"""

from collections import Counter, deque

from p2p.changes import Changes
from p2p.directory import Directory
from p2p.holding import Holding
from p2p.wire.messages import Events, Heartbeat, SnapshotPage, Want
from p2p_controller.changelog import ChangeLog, FeedLog

HISTORY_EVENTS = 4096
_MAX_KEPT_BATCHES = 4096
NO_SYNC = 0


class Feed:
    """State of one instance's feed since it registered.

    Args:
        directory: of its namespace.
        counters: of everything unusual.
        max_kept_events: bound of what is kept behind a gap, and during a snapshot.
        log: told of what is applied.

    Attributes:
        live: the holding that is looked up.
        acked_seq: every event up to here is in ``live``.
        sync: number of the newest snapshot, 0 for none.
        synced_page: its last page that was taken, -1 for none.
        is_synced: the live holding was equal to the instance's index once since it registered.
        replaced: what the last snapshot took the place of, until somebody takes it.
    """

    def __init__(
        self,
        directory: Directory,
        counters: Counter[str],
        max_kept_events: int,
        log: FeedLog | None = None,
    ) -> None:
        self.live = directory.open_holding()
        self.acked_seq = 0
        self.sync = NO_SYNC
        self.synced_page = -1
        self.is_synced = False
        self.replaced: Holding | None = None
        self._directory = directory
        self._log = log or FeedLog(0, ChangeLog())
        self._counters = counters
        self._max_kept_events = max_kept_events
        self._later: dict[int, Events] = {}  # behind a gap, by first_seq
        self._num_later = 0
        self._recent: deque[Events] = deque()  # applied, without gaps up to acked_seq
        self._recent_from = 1
        self._staged: Holding | None = None
        self._start_seq = 0
        self._page_s = 0.0
        self._is_stalled = False
        self._wants_snapshot = False
        self._wants_replay = False

    def close(self) -> None:
        """Gives up everything that is held."""
        self._directory.discard(self.live)
        self._drop_staged()
        self._drop_replaced()

    def take_replaced(self) -> Holding | None:
        """Returns what a snapshot has just taken the place of; whoever takes it discards it."""
        replaced, self.replaced = self.replaced, None
        return replaced

    @property
    def is_syncing(self) -> bool:
        """True while a snapshot is being taken."""
        return self._staged is not None

    def want(self) -> Want:
        """Returns what the instance should send next."""
        if self._staged is not None:
            return Want.SNAPSHOT if self._is_stalled else Want.NOTHING
        if self._wants_snapshot:
            return Want.SNAPSHOT
        return Want.REPLAY if self._later or self._wants_replay else Want.NOTHING

    def take_events(self, events: Events) -> None:
        """Applies a batch that follows, keeps one behind a gap, ignores one known already."""
        if last_seq_of(events) <= self.acked_seq:
            self._counters["batches_duplicate"] += 1
        elif events.first_seq > self.acked_seq + 1:
            self._keep(events)
        elif self._apply(events):
            self._apply_kept()

    def take_page(self, page: SnapshotPage, now_s: float) -> None:
        """Stages a page; the last one completes the snapshot, which becomes live at once."""
        if page.sync > self.sync:
            self._begin(page, now_s)
        if page.sync < self.sync:
            self._counters["pages_superseded"] += 1
        elif self._staged is None or page.page <= self.synced_page:
            self._counters["pages_duplicate"] += 1
        elif page.page > self.synced_page + 1:
            self._counters["pages_out_of_order"] += 1
        elif page.start_seq != self._start_seq:
            self._counters["pages_inconsistent"] += 1
        else:
            changes = Changes(page.tenant, page.kinds, page.keys, page.key_bytes)
            self._put(self._staged, changes)
            self._page_s, self._is_stalled = now_s, False
            self.synced_page = page.page
            if page.last:
                self._complete(self._staged)

    def check(self, heartbeat: Heartbeat, now_s: float, stalled_after_s: float) -> None:
        """Compares with what the instance says of itself, and decides what is to be repaired."""
        self._wants_replay = False
        if self._staged is not None:
            if now_s >= self._page_s + stalled_after_s and not self._is_stalled:
                self._counters["syncs_stalled"] += 1
                self._is_stalled = True
            return
        if heartbeat.last_seq > self.acked_seq:
            self._wants_replay = True
        elif heartbeat.last_seq < self.acked_seq:
            self._counters["heartbeats_late"] += 1
        elif heartbeat.view_hash == self.live.view_hash:
            self.is_synced = True
            self._wants_snapshot = False
        elif not self._wants_snapshot:
            self._counters["drifts"] += 1
            self._wants_snapshot = True

    def _keep(self, events: Events) -> None:
        if events.first_seq in self._later:
            self._counters["batches_duplicate"] += 1
            return
        if not self._later and self._staged is None:
            self._counters["gaps"] += 1
        num = self._num_later + len(events.kinds)
        if num > self._max_kept_events or len(self._later) >= _MAX_KEPT_BATCHES:
            self._counters["batches_not_kept"] += 1  # not acknowledged: the instance has them
            return
        self._later[events.first_seq] = events
        self._num_later = num

    def _apply(self, events: Events) -> bool:
        num_since = self.acked_seq - self._start_seq
        if self._staged is not None and num_since >= self._max_kept_events:
            self._counters["batches_not_kept"] += 1
            return False
        self._apply_to(self.live, events, self.acked_seq)
        self.acked_seq = last_seq_of(events)
        self._wants_replay = False
        self._recent.append(events)
        self._trim_recent()
        return True

    def _apply_to(self, holding: Holding, events: Events, after_seq: int) -> None:
        skip = max(0, after_seq + 1 - events.first_seq)
        kinds, keys = events.kinds[skip:], events.keys[skip * events.key_bytes :]
        changes = Changes(events.tenant, kinds, keys, events.key_bytes)
        self._put(holding, changes)

    def _put(self, holding: Holding, changes: Changes) -> None:
        self._directory.apply(holding, changes)
        self._log.changed(changes, is_staged=holding is self._staged)

    def _apply_kept(self) -> None:
        for first_seq in sorted(self._later):
            if first_seq > self.acked_seq + 1:
                break
            events = self._later.pop(first_seq)
            self._num_later -= len(events.kinds)
            if last_seq_of(events) > self.acked_seq and not self._apply(events):
                break

    def _trim_recent(self) -> None:
        keep_after = self.acked_seq - HISTORY_EVENTS
        if self._staged is not None:
            keep_after = min(keep_after, self._start_seq)
        while self._recent and last_seq_of(self._recent[0]) <= keep_after:
            self._recent_from = last_seq_of(self._recent.popleft()) + 1

    def _begin(self, page: SnapshotPage, now_s: float) -> None:
        self._drop_staged()
        self._page_s, self._is_stalled = now_s, False
        self.sync = page.sync
        self._start_seq = page.start_seq
        self.synced_page = -1
        if page.start_seq + 1 < self._recent_from:
            self._counters["snapshots_too_old"] += 1  # what came after its start is not here
            self._wants_snapshot = True
            return
        self._staged = self._directory.open_holding()
        self._log.stage_begun()

    def _complete(self, staged: Holding) -> None:
        if self._start_seq > self.acked_seq:
            self.acked_seq = self._start_seq
            self._recent.clear()
            self._recent_from = self.acked_seq + 1
        for events in self._recent:
            if last_seq_of(events) > self._start_seq:
                self._apply_to(staged, events, self._start_seq)
        self._drop_replaced()
        self.replaced = self.live
        self.live, self._staged = staged, None
        self._log.stage_live()
        self.is_synced = True
        self._wants_snapshot = self._wants_replay = False
        self._apply_kept()
        self._trim_recent()

    def _drop_replaced(self) -> None:
        if self.replaced is not None:
            self._directory.discard(self.replaced)
            self.replaced = None

    def _drop_staged(self) -> None:
        if self._staged is not None:
            self._directory.discard(self._staged)
            self._staged = None


def last_seq_of(events: Events) -> int:
    """Returns the sequence number of a batch's last event."""
    return events.first_seq + len(events.kinds) - 1
