"""Measures what copies cost on this machine, on scratch memory, within a budget.

Candidates are measured in turns at every point of a small grid of spans and row counts, each the
median of five copies of other blocks; the constants of `Cost` are fitted to that. One that is far
behind is measured no further, and when the budget is spent, the points that all have seen must do.
"""

import logging
import math
import statistics
import time
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from itertools import product
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from p2p.errors import LocalError
from p2p_kernels.base import Slot
from p2p_kernels.cost_file import Costs
from p2p_kernels.costs import Direction, LayoutKind, fitted, work_of
from p2p_kernels.machine import synchronize
from p2p_kernels.memory import PageMemory
from p2p_kernels.plan import CopyPlan, plan_blocks
from p2p_kernels.registry import Implementation, create
from p2p_kernels.scratch import PAGE_BYTES, Case, Point, Scratch

if TYPE_CHECKING:
    from p2p_kernels.costs import Work

PLAIN_COPY = "copy"
"""The name under which a plain copy of as many bytes is measured, to compare with."""

_log = logging.getLogger(__name__)
_Samples: TypeAlias = "tuple[list[Work], list[float]]"
Run: TypeAlias = Callable[[CopyPlan, Sequence[Slot]], None]
_COPIES = 6  # one that prepares, and five that count
_PATIENCE = 5.0
_FEWEST_POINTS = 5
_STEP = 5
_SPANS = {
    LayoutKind.BLOCKS: (4 << 10, 32 << 10, 256 << 10),
    LayoutKind.ROWS: (64, 256, 1024),
    LayoutKind.STRIDED: (64, 256, 1024),
}
_ROWS = {
    LayoutKind.BLOCKS: (4, 32),
    LayoutKind.ROWS: (64, 1024),
    LayoutKind.STRIDED: (64, 256),
}
_PLANES = (1, 8)
_MOST_BYTES = 8 << 20


class Calibration:
    """Measures implementations on one device.

    Args:
        device: as torch writes it.
        clock: monotonic seconds.
        patience: how many times slower than the fastest one may be and be measured further.
    """

    def __init__(
        self,
        device: str,
        clock: Callable[[], float] = time.perf_counter,
        patience: float = _PATIENCE,
    ) -> None:
        self._device = device
        self._clock = clock
        self._patience = patience

    @cached_property
    def _scratch(self) -> Scratch:
        return Scratch(self._device)

    def measure(
        self, names: Sequence[str], kind: LayoutKind, direction: Direction, budget_s: float
    ) -> Costs:
        """Returns the costs of implementations, without those that cannot copy.

        If the budget is spent too early to say something of any, the result is empty.

        Args:
            names: implementations, or `PLAIN_COPY`.
            kind: of layouts.
            direction: which way.
            budget_s: when to stop. A copy that has begun is waited for.
        """
        end = self._clock() + budget_s
        found: dict[str, _Samples] = {name: ([], []) for name in names}
        running = list(names)
        for number, point in enumerate(_grid(kind)):
            case = self._scratch.case(kind, point)
            work = work_of(plan_blocks(case.shape, [0] * case.shape.blocks.size))
            taken = self._race(running, case, direction, end)
            if taken is None and number < _FEWEST_POINTS:
                return {}
            if taken is None:
                break
            for name, seconds in taken.items():
                found[name][0].append(work)
                found[name][1].append(seconds)
            fastest = min(taken.values(), default=math.inf)
            running = [name for name in taken if taken[name] <= fastest * self._patience]
        return {name: fitted(*samples) for name, samples in found.items() if samples[0]}

    def _race(
        self, names: Sequence[str], case: Case, direction: Direction, end: float
    ) -> dict[str, float] | None:
        """Returns the seconds of those that can copy; none if the time is over before all did."""
        taken: dict[str, float] = {}
        for number, name in enumerate(names):
            limit = min(taken.values(), default=math.inf) * self._patience
            try:
                run = self._runner(name, case.memory, direction)
                seeds = range(number * _COPIES, (number + 1) * _COPIES)
                seconds = self._median(run, case, direction, seeds, (end, limit))
            except LocalError as error:
                _log.info("%s cannot copy on %s: %s", name, self._device, error)
                continue
            if seconds is None:
                return None
            taken[name] = seconds
        return taken

    def _runner(self, name: str, memory: PageMemory, direction: Direction) -> Run:
        if name == PLAIN_COPY:
            return partial(_copy_plainly, self._scratch.pages, direction)
        copier = create(memory, Implementation(name))
        return copier.gather if direction.is_gather else copier.scatter

    def _median(
        self,
        run: Run,
        case: Case,
        direction: Direction,
        seeds: range,
        end_and_limit: tuple[float, float],
    ) -> float | None:
        """Returns the median of some copies, or one that is beyond the limit; none if too late.

        Each copies what no other has: the next candidate would find its blocks in a cache.
        """
        end, limit = end_and_limit
        taken: list[float] = []
        for seed in seeds:  # the first one prepares and is not counted
            plan, slots = self._scratch.copy(case, direction, seed)
            synchronize(self._device)
            start = self._clock()
            if start > end:
                return None
            run(plan, slots)
            synchronize(self._device)
            taken.append(self._clock() - start)
            if len(taken) > 1 and taken[-1] > limit:
                return taken[-1]
        return statistics.median(taken[1:])


def _grid(kind: LayoutKind) -> list[Point]:
    points = [Point(*sizes) for sizes in product(_SPANS[kind], _PLANES, _ROWS[kind])]
    small = [point for point in points if math.prod(point) <= _MOST_BYTES]
    # In steps, so that the first ones differ in all sizes, if no more of them can be measured.
    return [small[number * _STEP % len(small)] for number in range(len(small))]


def _copy_plainly(pages: Slot, direction: Direction, plan: CopyPlan, slots: Sequence[Slot]) -> None:
    """Copies as many bytes in one piece, somewhere from the pages or to them."""
    for slot in slots:
        num_bytes = int(slot.shape[0])
        start = int(plan.block_ids[0, 0]) * num_bytes % (PAGE_BYTES - num_bytes)
        pair = pages[start : start + num_bytes], slot
        source, target = pair if direction.is_gather else reversed(pair)
        _copy_span(source, target)


def _copy_span(source: Slot, target: Slot) -> None:
    if isinstance(source, np.ndarray) and isinstance(target, np.ndarray):
        np.copyto(target, source)
        return
    from p2p_kernels.torch_kernels import as_tensor  # noqa: PLC0415 - optional package

    as_tensor(target).copy_(as_tensor(source))
