"""A simulated process: it stands still, crashes, comes again, and has a clock of its own.

Threads are names: each is a queue in order, and while the process stands still they fill up. What
the production shells guard with a lock is one event here.
"""

from collections.abc import Callable
from functools import partial

from tests.sim.clock import Clock

MAX_SKEW = 0.01
Work = Callable[[], None]


class Process:
    """What crashes and stops as one.

    Args:
        clock: the true time.
        name: also its address.

    Attributes:
        life: number of its start; what was begun in an earlier one never comes back.
        rate: of its clock, against the true one.
        went_on_s: true time of its start, or of its last standstill's end.
    """

    def __init__(self, clock: Clock, name: str) -> None:
        self.clock = clock
        self.name = name
        self.life = 0
        self.is_up = False
        self.is_stopped = False
        self.went_on_s = 0.0
        skew = clock.random.choice([-1.0, 1.0, clock.random.uniform(-1, 1)])
        self.rate = 1 + MAX_SKEW * skew
        self._offset_s = clock.random.uniform(0, 1e4)
        self._backlog: dict[str, list[Work]] = {}

    def now_s(self) -> float:
        """Returns this machine's own time; it goes on while the process stands still."""
        return self.clock.now_s * self.rate + self._offset_s

    def begin(self) -> None:
        """A new start, with nothing of the last one."""
        self.life += 1
        self.went_on_s = self.clock.now_s
        self.is_up, self.is_stopped = True, False
        self._backlog = {}

    def crash(self) -> None:
        """Everything is lost; what is under way never comes back here."""
        self.is_up = False

    def stand_still(self) -> None:
        """As by SIGSTOP: sockets and memory stay, nothing runs."""
        self.is_stopped = True

    def go_on(self) -> None:
        """As by SIGCONT: the threads take up what waits for them, in any order."""
        if not self.is_stopped:
            return
        self.is_stopped = False
        self.went_on_s = self.clock.now_s
        backlog, self._backlog = self._backlog, {}
        threads = list(backlog)
        self.clock.random.shuffle(threads)
        for thread in threads:
            for work in backlog[thread]:
                self.run(thread, work)

    def run(self, thread: str, work: Work) -> None:
        """Runs a thread's next work: now, or when the process goes on."""
        if not self.is_up:
            return
        if self.is_stopped:
            self._backlog.setdefault(thread, []).append(work)
        else:
            work()

    def later(self, delay_s: float, thread: str, label: str, work: Work) -> None:
        """Runs work after a time on this machine's clock, if this life still lasts then."""
        due = partial(self._due, self.life, thread, work)
        self.clock.after(delay_s / self.rate, f"{self.name} {label}", due)

    def _due(self, life: int, thread: str, work: Work) -> None:
        if life == self.life:
            self.run(thread, work)
