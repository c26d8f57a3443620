"""Whose snapshot may travel now: so many pages at a time over all instances. No I/O, no clock.

After a restart of the controller every instance comes back at once with all that it has, and those
with a mirror want to copy what the others have. Each page takes the loop for milliseconds, so what
waits in the queue would delay every lookup. An instance without a turn asks for one, and is
answered when it has it.
"""

from collections import Counter
from typing import TYPE_CHECKING

from p2p.wire.exchange import Sender
from p2p.wire.messages import MAX_PAGES_UNDER_WAY
from p2p_controller.members import Member

if TYPE_CHECKING:
    from p2p.keys import InstanceId


class Turns:
    """Who has a turn, and who waits for one, first come first served.

    Args:
        num_pages: pages that may be under way over all instances.
        stalled_after_s: a turn in which nothing comes for so long is over.
        counters: of everything unusual.
    """

    def __init__(self, num_pages: int, stalled_after_s: float, counters: Counter[str]) -> None:
        self._num_pages = num_pages
        self._stalled_after_s = stalled_after_s
        self._counters = counters
        self._heard_s: dict[Member, float] = {}  # who has a turn
        self._waiting: dict[InstanceId, tuple[Member, Sender]] = {}

    def take(self, member: Member, now_s: float) -> None:
        """Gives a turn if nobody has to wait for that; who has one keeps it."""
        is_free = not self._waiting and len(self._heard_s) < self._num_pages
        if is_free or member in self._heard_s:
            self._heard_s[member] = now_s

    def has(self, member: Member) -> bool:
        """True if a member has a turn."""
        return member in self._heard_s

    def wait(self, member: Member, sender: Sender, now_s: float) -> None:
        """A member asks for a turn; `granted` names it when it has one."""
        self._expire(now_s)
        self._waiting[member.instance] = (member, sender)

    def release(self, member: Member) -> None:
        """A member has a turn and no use for it."""
        self._heard_s.pop(member, None)

    def end(self, member: Member) -> None:
        """A snapshot is complete, or its instance is gone."""
        self._heard_s.pop(member, None)
        if self._waiting.get(member.instance, (None,))[0] is member:
            del self._waiting[member.instance]

    def granted(self, now_s: float) -> list[tuple[Member, Sender]]:
        """Returns whose turn has come, each once."""
        if not self._waiting:
            return []
        self._expire(now_s)
        granted: list[tuple[Member, Sender]] = []
        for instance, (member, sender) in list(self._waiting.items()):
            if member not in self._heard_s and len(self._heard_s) >= self._num_pages:
                break
            del self._waiting[instance]
            self._heard_s[member] = now_s
            granted.append((member, sender))
        return granted

    def pages_of(self, member: Member) -> int:
        """Returns how many pages a member may have under way; 0 if it has to ask for a turn."""
        if member in self._heard_s:
            return max(1, min(MAX_PAGES_UNDER_WAY, self._num_pages // len(self._heard_s)))
        is_free = not self._waiting and len(self._heard_s) < self._num_pages
        return 1 if is_free else 0

    def next_deadline_s(self) -> float:
        """Returns when `granted` has somebody even if nothing comes in."""
        if not self._waiting:
            return float("inf")
        return min(self._heard_s.values(), default=float("-inf")) + self._stalled_after_s

    def _expire(self, now_s: float) -> None:
        stalled = [m for m, s in self._heard_s.items() if now_s >= s + self._stalled_after_s]
        for member in stalled:
            del self._heard_s[member]
            self._counters["turns_stalled"] += 1
