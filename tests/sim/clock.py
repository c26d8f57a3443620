"""Simulated time: a heap of events. It jumps from one to the next; one seed, one order."""

import heapq
import random
import zlib
from collections import deque
from collections.abc import Callable

START_S = 1000.0
_NUM_LAST = 60


class InvariantError(AssertionError):
    """A promise of the design was broken."""


def require(holds: bool, problem: str) -> None:
    """Raises `InvariantError` if an invariant does not hold."""
    if not holds:
        raise InvariantError(problem)


class Clock:
    """Runs events in the order of their times; ties go by who came first.

    Args:
        seed: of every decision of the run.
        keeps_all: keep the whole trace, not only its end.

    Attributes:
        now_s: the true time; processes have clocks of their own.
        random: the only source of chance.
        trace_hash: over all events and notes; equal runs have equal hashes.
        last: the newest events and notes, or all of them.
    """

    def __init__(self, seed: int, keeps_all: bool = False) -> None:
        self.now_s = START_S
        self.random = random.Random(seed)  # noqa: S311  replayed, not secret
        self.num_events = 0
        self.trace_hash = 0
        self.last: deque[str] = deque(maxlen=None if keeps_all else _NUM_LAST)
        self._events: list[tuple[float, int, str, Callable[[], None]]] = []
        self._number = 0

    def after(self, delay_s: float, label: str, event: Callable[[], None]) -> None:
        """Runs an event later."""
        self.at(self.now_s + max(0.0, delay_s), label, event)

    def at(self, when_s: float, label: str, event: Callable[[], None]) -> None:
        """Runs an event at a moment, or now if that is over."""
        self._number += 1
        heapq.heappush(self._events, (max(when_s, self.now_s), self._number, label, event))

    def note(self, text: str) -> None:
        """Adds something to the trace."""
        line = f"{self.now_s:.6f} {text}"
        self.trace_hash = zlib.crc32(line.encode(), self.trace_hash)
        self.last.append(line)

    def chance(self, probability: float) -> bool:
        """Returns true with a probability."""
        return probability > 0 and self.random.random() < probability

    def run_until(self, end_s: float, after_each: Callable[[], None]) -> None:
        """Runs events up to a moment, and a check after every one of them."""
        while self._events and self._events[0][0] <= end_s:
            self.now_s, _, label, event = heapq.heappop(self._events)
            self.num_events += 1
            self.note(label)
            event()
            after_each()
        self.now_s = end_s
