"""Keeps a mirror of the directory up to date, and says when it may be used. No I/O, no clock.

A state machine: `poll` returns the requests that are due, `on_answer` takes what came back. One
question for changes and one for a page of a copy are under way at a time. What is lost is asked for
again; a new registration of ours starts over.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from p2p.backend.membership import BondState, Membership
from p2p.backend.mirror import Mirror
from p2p.keys import ChunkKey
from p2p.wire.messages import (
    ControllerReply,
    CopyEntries,
    DirectoryChanges,
    EntriesPage,
    Follow,
    Located,
    Message,
)


@dataclass(frozen=True, slots=True)
class MirrorLimits:
    """How far a mirror goes.

    Attributes:
        behind_s: one that has not been confirmed for so long answers nothing.
        max_entries: one that would be larger is given up for good.
        retry_s: an unanswered question is repeated after this and the time that it may take.
    """

    behind_s: float = 2.0
    max_entries: int = 4_000_000
    retry_s: float = 0.5


class Following:
    """Follows the changes of the namespace.

    Args:
        membership: how we stand with the controller.
        counters: of everything unusual and of the work done.
        limits: of the mirror.

    Attributes:
        is_given_up: the mirror was too large; the controller is asked from now on.
        mirror: the copy.
    """

    def __init__(
        self, membership: Membership, counters: Counter[str], limits: MirrorLimits | None = None
    ) -> None:
        self.is_given_up = False
        self.mirror = Mirror(counters)
        self._membership = membership
        self._counters = counters
        self._limits = limits or MirrorLimits()
        self._wait_s = self._limits.behind_s / 4
        self._registration = 0
        self._epoch = 0
        self._round = 0
        self._partial = True
        self._asked_s: float | None = None
        self._page_asked_s: float | None = None
        self._page_of: tuple[int, int, int] | None = None
        self._confirmed_s = float("-inf")

    # ------------------------------------------------------------------ lookups

    def locate(self, keys: Sequence[ChunkKey], tenant: str, now_s: float) -> Located | None:
        """Returns what the controller would answer, or None if it has to be asked."""
        if not self.is_current(now_s):
            return None
        layout = self._membership.identity.layout
        runs, holders = self.mirror.find(keys, tenant, layout, now_s)
        self._counters["mirror_answers"] += 1
        return Located(epoch=self._epoch, runs=runs, holders=holders, partial=self._partial)

    def is_current(self, now_s: float) -> bool:
        """True if the mirror is whole and was confirmed lately."""
        return (
            not self.is_given_up
            and now_s <= self._confirmed_s + self._limits.behind_s
            and self._registration == self._membership.num_registrations
            and self.mirror.is_whole
        )

    # ------------------------------------------------------------------ questions and answers

    def poll(self, now_s: float) -> list[Message]:
        """Returns the requests to send now."""
        membership = self._membership
        if self.is_given_up or membership.state is not BondState.BONDED:
            return []
        if self._registration != membership.num_registrations:
            self._start_over()
        messages: list[Message] = []
        own = membership.identity
        if self._asked_s is None or now_s >= self._asked_s + self._wait_s + self._limits.retry_s:
            self._asked_s = now_s
            self._round += 1
            follow = Follow(
                instance=own.instance,
                incarnation=own.incarnation,
                epoch=self._epoch,
                round=self._round,
                after=self.mirror.position,
                wait_ms=int(self._wait_s * 1000),
            )
            messages.append(follow)
        wanted = self.mirror.next_copy()
        is_late = self._page_asked_s is None or now_s >= self._page_asked_s + self._limits.retry_s
        if wanted is not None and (wanted != self._page_of or is_late):
            self._page_asked_s, self._page_of = now_s, wanted
            number, page, start = wanted
            copy = CopyEntries(
                instance=own.instance,
                incarnation=own.incarnation,
                epoch=self._epoch,
                round=self._registration,
                number=number,
                page=page,
                start=start,
            )
            messages.append(copy)
        return messages

    def next_deadline_s(self, now_s: float) -> float:
        """Returns when `poll` has something to do even if nothing happens."""
        if self.is_given_up or self._membership.state is not BondState.BONDED:
            return float("inf")
        if self._asked_s is None or self._registration != self._membership.num_registrations:
            return now_s
        due_s = self._asked_s + self._wait_s + self._limits.retry_s
        wanted = self.mirror.next_copy()
        if wanted is not None:
            if wanted != self._page_of or self._page_asked_s is None:
                return now_s
            due_s = min(due_s, self._page_asked_s + self._limits.retry_s)
        return due_s

    def on_answer(self, message: ControllerReply, now_s: float) -> None:
        """Takes an answer of the controller, if it is about the mirror."""
        if self.is_given_up or self._registration != self._membership.num_registrations:
            return
        match message:
            case DirectoryChanges():
                if message.round == self._round and self._asked_s is not None:
                    self._on_changes(message, now_s)
            case EntriesPage():
                if message.round == self._registration and message.epoch == self._epoch:
                    self.mirror.take_page(message)
            case _:
                return
        self.mirror.sweep()
        if self.mirror.num_entries > self._limits.max_entries:
            self._give_up()

    def _on_changes(self, message: DirectoryChanges, now_s: float) -> None:
        asked_s, self._asked_s = self._asked_s, None
        if message.epoch != self._epoch or asked_s is None:
            return
        zero_s = now_s - message.now_ms / 1000
        if message.starts_over:
            self._counters["mirror_starts"] += 1
            self.mirror.start_over(message.after, message.changes, zero_s)
        elif message.after == self.mirror.position:
            self.mirror.take(message.changes, zero_s)
        else:
            return
        self._partial = message.partial
        self._confirmed_s = asked_s  # it may have been on its way for as long

    def _start_over(self) -> None:
        self._registration = self._membership.num_registrations
        self._epoch = self._membership.epoch
        self._asked_s = self._page_asked_s = self._page_of = None
        self._confirmed_s = float("-inf")
        self.mirror.start_over(0, (), 0.0)

    def _give_up(self) -> None:
        self.is_given_up = True
        self._counters["mirror_given_up"] += 1
        self.mirror = Mirror(self._counters)
