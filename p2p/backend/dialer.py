"""Finds out beside the engine's loop over which channel a holder answers, if over any.

So a dead holder holds up nobody, and neither does a channel that does not work with it.
"""

import threading
import time
from collections import deque
from dataclasses import dataclass

from p2p.backend.search import Search
from p2p.backend.trials import DialPlan, Trial
from p2p.channel.channels import Channels, Reached
from p2p.errors import P2PError
from p2p.wire.messages import Holder
from p2p.wire.wakeup import Wakeup

_MOST_CALLS = 32  # at a time; one that is not answered lasts as long as its first contact may
_CLOSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Call:
    """How dialling ended.

    Attributes:
        holder: who was dialled.
        reached: what a link is made of; None if there was no answer.
        trials: the channels that were tried, in order.
        problem: why there was no answer.
        is_retry: the pair had a link before.
    """

    holder: Holder
    reached: Reached | None
    trials: tuple[Trial, ...] = ()
    problem: str = ""
    is_retry: bool = False


class Dialer:
    """Dials, each time on a thread of its own.

    Args:
        channels: that dial.
        wakeup: rung when a call has ended.
    """

    def __init__(self, channels: Channels, wakeup: Wakeup) -> None:
        self._channels = channels
        self._wakeup = wakeup
        self._calls: deque[Call] = deque()
        self._room = threading.BoundedSemaphore(_MOST_CALLS)
        self._threads: list[threading.Thread] = []
        self._is_closed = False

    def dial(self, holder: Holder, plan: DialPlan, timeout_s: float) -> None:
        """Starts a call; its end comes with `take`."""
        work = (holder, plan, timeout_s)
        thread = threading.Thread(target=self._dial, args=work, name="p2p-dial", daemon=True)
        self._threads = [other for other in self._threads if other.is_alive()]
        self._threads.append(thread)
        thread.start()

    def take(self) -> list[Call]:
        """Returns the calls that ended since the last call of this."""
        calls: list[Call] = []
        while self._calls:
            calls.append(self._calls.popleft())
        return calls

    def close(self) -> None:
        """Waits a second for the calls under way; what takes longer ends by itself."""
        self._is_closed = True
        end_s = time.monotonic() + _CLOSE_S
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))

    def _dial(self, holder: Holder, plan: DialPlan, timeout_s: float) -> None:
        with self._room:
            if self._is_closed:
                return
            call = self._call(holder, plan, timeout_s)
        self._calls.append(call)
        self._wakeup.ring()

    def _call(self, holder: Holder, plan: DialPlan, timeout_s: float) -> Call:
        """Tries the channels of a plan; what follows one that took its time gets half of it."""
        search = Search(plan)
        reached: dict[str, Reached] = {}
        deadline_s = time.monotonic() + timeout_s
        while (attempt := search.next_attempt()) is not None:
            left_s = max(deadline_s - time.monotonic(), timeout_s / 2)
            try:
                found = self._channels.dial(holder.instance, attempt.offer, left_s)
            except P2PError as error:
                search.on_trial(attempt.failed(error))
                continue
            reached[attempt.channel] = found
            search.on_trial(attempt.worked(found.dialled.transport, found.dialled.latency_s))
        chosen = reached.get(search.chosen)
        return Call(holder, chosen, tuple(search.trials), search.problem, plan.is_retry)
