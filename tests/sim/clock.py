"""Simulated time: a heap of events. One seed, one order."""

import heapq
import random
from collections.abc import Callable


class SimClock:
    """Runs events in the order of their times; ties go by who came first."""

    def __init__(self, seed: int) -> None:
        self.now_s = 1000.0
        self.random = random.Random(seed)  # noqa: S311  replayed, not secret
        self.num_events = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def after(self, delay_s: float, event: Callable[[], None]) -> None:
        """Runs an event later."""
        self._number += 1
        heapq.heappush(self._events, (self.now_s + delay_s, self._number, event))

    def run_until(self, end_s: float, check: Callable[[], None]) -> None:
        """Runs events up to a moment; calls ``check`` after every hundredth."""
        while self._events and self._events[0][0] <= end_s:
            self.now_s, _, event = heapq.heappop(self._events)
            event()
            self.num_events += 1
            if self.num_events % 100 == 0:
                check()
        self.now_s = end_s


class Network:
    """Carries encoded messages with delay, loss and duplicates, and cuts between processes."""

    def __init__(self, clock: SimClock, loss: float) -> None:
        self.loss = loss
        self.cut: set[str] = set()
        self._clock = clock

    def send(self, source: str, target: str, deliver: Callable[[], None]) -> None:
        """Delivers later, perhaps never, perhaps twice; order is not kept."""
        draw = self._clock.random
        if source in self.cut or target in self.cut or draw.random() < self.loss:
            return
        for _ in range(2 if self.loss and draw.random() < 0.02 else 1):
            self._clock.after(draw.uniform(0.0001, 0.004), deliver)
