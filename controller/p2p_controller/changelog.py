"""What has changed in a namespace, for the instances that follow it. No I/O, no clock.

Changes are kept, bounded, only while somebody follows. A change of entries is the batch or page as
it came in, so following costs no work per key. Answers are late: news are collected for a moment,
the longer the more instances follow, so that many of them cost the loop no more than few.
"""

from collections import deque
from dataclasses import dataclass
from itertools import islice

from p2p.changes import Changes
from p2p.keys import InstanceId
from p2p.wire.exchange import Sender
from p2p.wire.messages import (
    MAX_CHANGES,
    AnyChange,
    EntriesChanged,
    Follow,
    StageBegun,
    StageLive,
)

MAX_KEPT_CHANGES = 1 << 16
MAX_KEPT_BYTES = 64 << 20
ANSWER_BYTES = 256 << 10
_SPLIT_KEYS = 4096
_COLLECT_S = 0.002
_COLLECT_EACH_S = 0.0005
_FORGET_S = 30.0


@dataclass(frozen=True, slots=True)
class Following:
    """An instance that waits for news."""

    sender: Sender
    request: Follow
    deadline_s: float


class ChangeLog:
    """Changes of one namespace by position, without gaps, and who waits for them.

    Attributes:
        last: position of the last change.
        is_kept: somebody follows.
    """

    def __init__(self) -> None:
        self.last = 1  # 0 is the position of those who know nothing
        self.is_kept = False
        self._kept: deque[AnyChange] = deque()
        self._num_bytes = 0
        self._waiting: dict[InstanceId, Following] = {}
        self._asked_s = 0.0
        self._answer_at_s: float | None = None
        self._has_news = False

    def add(self, change: AnyChange) -> None:
        """Appends a change, if somebody follows."""
        if not self.is_kept:
            return
        self.last += 1
        self._kept.append(change)
        self._num_bytes += _size_of(change)
        self._has_news = True
        while len(self._kept) > MAX_KEPT_CHANGES or self._num_bytes > MAX_KEPT_BYTES:
            self._num_bytes -= _size_of(self._kept.popleft())

    def add_entries(self, number: int, changes: Changes, *, is_staged: bool) -> None:
        """Appends a batch as it came in; a large one in parts."""
        if not self.is_kept:
            return
        key_bytes = changes.key_bytes
        for start in range(0, len(changes.kinds), _SPLIT_KEYS):
            end = start + _SPLIT_KEYS
            self.add(
                EntriesChanged(
                    number=number,
                    kinds=changes.kinds[start:end],
                    keys=changes.blob[start * key_bytes : end * key_bytes],
                    key_bytes=key_bytes,
                    tenant=changes.tenant,
                    is_staged=is_staged,
                )
            )

    # ------------------------------------------------------------------ those who follow

    def follow(self, sender: Sender, request: Follow, now_s: float) -> None:
        """Notes that an instance waits for what comes after a position."""
        self.is_kept = True
        self._asked_s = now_s
        deadline_s = now_s + request.wait_ms / 1000
        self._waiting[InstanceId(request.instance)] = Following(sender, request, deadline_s)
        self._has_news = self._has_news or request.after != self.last

    def leave(self, instance: InstanceId) -> None:
        """An instance does not wait any more."""
        self._waiting.pop(instance, None)

    def due(self, now_s: float) -> list[Following]:
        """Returns whom to answer now, each once."""
        if not self.is_kept or now_s < self.next_deadline_s(now_s):
            return []
        if not self._waiting:
            if now_s >= self._asked_s + _FORGET_S:
                self._stop()
            return []
        is_time = self._answer_at_s is not None and now_s >= self._answer_at_s
        due = [
            one
            for one in self._waiting.values()
            if now_s >= one.deadline_s or (is_time and one.request.after != self.last)
        ]
        for one in due:
            del self._waiting[InstanceId(one.request.instance)]
        if is_time:
            self._answer_at_s, self._has_news = None, False
        return due

    def next_deadline_s(self, now_s: float) -> float:
        """Returns when `due` has something."""
        if not self.is_kept:
            return float("inf")
        if not self._waiting:
            return self._asked_s + _FORGET_S
        if self._has_news and self._answer_at_s is None:
            self._answer_at_s = now_s + _COLLECT_S + _COLLECT_EACH_S * len(self._waiting)
        patience_s = min(one.deadline_s for one in self._waiting.values())
        return min(patience_s, self._answer_at_s or patience_s)

    def after(self, position: int) -> tuple[AnyChange, ...] | None:
        """Returns what came after a position, as much as one answer takes; None if it is gone."""
        skip = position - (self.last - len(self._kept))
        if not 0 <= skip <= len(self._kept) or position == 0:
            return None
        found: list[AnyChange] = []
        num_bytes = 0
        for change in islice(self._kept, skip, skip + MAX_CHANGES):
            num_bytes += _size_of(change)
            if found and num_bytes > ANSWER_BYTES:
                break
            found.append(change)
        return tuple(found)

    def _stop(self) -> None:
        self.is_kept = False
        self._kept.clear()
        self._num_bytes = 0
        self.last += 1  # who comes back later has missed something
        self._has_news, self._answer_at_s = False, None


@dataclass(frozen=True, slots=True)
class FeedLog:
    """What one member's feed tells a log."""

    number: int
    log: ChangeLog

    def changed(self, changes: Changes, *, is_staged: bool) -> None:
        """Entries changed, or those of a snapshot in the making."""
        self.log.add_entries(self.number, changes, is_staged=is_staged)

    def stage_begun(self) -> None:
        """A snapshot begins."""
        self.log.add(StageBegun(number=self.number))

    def stage_live(self) -> None:
        """A snapshot has become the entries."""
        self.log.add(StageLive(number=self.number))


def _size_of(change: AnyChange) -> int:
    return len(change.keys) if isinstance(change, EntriesChanged) else 0
