"""Shows the demo's steps: a moving bar on a terminal, one line per step anywhere else."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

_BAR_WIDTH = 24
_FULLEST = 0.97
_REDRAW_S = 0.1


class StepLines:
    """One line per finished step, with the time that it took."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def step(self, title: str, usual_s: float) -> Iterator[None]:
        """Prints the step once it is over; ``usual_s`` is of no use here."""
        del usual_s
        start_s = time.monotonic()
        yield
        self._console.print(f"{time.monotonic() - start_s:5.1f} s  {title}", highlight=False)


class StepBars:
    """A bar for the step under way, above which the finished steps stay as lines.

    Args:
        console: a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines = StepLines(console)

    @contextmanager
    def step(self, title: str, usual_s: float) -> Iterator[None]:
        """Shows a bar that fills as the step's usual time passes."""
        text = TextColumn("{task.description}")
        columns = (SpinnerColumn(), BarColumn(_BAR_WIDTH), TimeElapsedColumn(), text)
        is_over = threading.Event()
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(title, total=usual_s)
            filler = threading.Thread(target=_fill, args=(progress, task, usual_s, is_over))
            filler.start()
            try:
                with self._lines.step(title, usual_s):
                    yield
            finally:
                is_over.set()
                filler.join()


def _fill(progress: Progress, task: TaskID, usual_s: float, is_over: threading.Event) -> None:
    """Takes the time that has passed for the work that is done."""
    start_s = time.monotonic()
    while not is_over.wait(_REDRAW_S):
        passed_s = min(time.monotonic() - start_s, _FULLEST * usual_s)
        progress.update(task, completed=passed_s)
