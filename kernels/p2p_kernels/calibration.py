"""Measures what copies cost on this machine, on scratch memory, within a budget.

A candidate is measured at every point of a small grid of spans and row counts, each the median of
five copies of other blocks; the constants of `Cost` are fitted to that. One that cannot finish in
its share of the budget gets no cost, and is not chosen before those that have one.
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
from p2p_kernels.costs import Cost, Direction, LayoutKind, fitted, work_of
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
Run: TypeAlias = Callable[[CopyPlan, Sequence[Slot]], None]
_REPEATS = 5
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
    """

    def __init__(self, device: str, clock: Callable[[], float] = time.perf_counter) -> None:
        self._device = device
        self._clock = clock

    @cached_property
    def _scratch(self) -> Scratch:
        return Scratch(self._device)

    def measure(
        self, names: Sequence[str], kind: LayoutKind, direction: Direction, budget_s: float
    ) -> Costs:
        """Returns the costs of implementations; none for one that was too slow or cannot run.

        Args:
            names: implementations, or `PLAIN_COPY`; each has an equal share of what is left.
            kind: of layouts.
            direction: which way.
            budget_s: when to stop. A copy that has begun is waited for.
        """
        costs: Costs = {}
        end = self._clock() + budget_s
        for number, name in enumerate(names):
            now = self._clock()
            deadline = now + (end - now) / (len(names) - number)
            costs[name] = self._cost(name, kind, direction, deadline)
        return costs

    def _cost(
        self, name: str, kind: LayoutKind, direction: Direction, deadline: float
    ) -> Cost | None:
        works: list[Work] = []
        seconds: list[float] = []
        for point in _grid(kind):
            case = self._scratch.case(kind, point)
            try:
                run = self._runner(name, case.memory, direction)
                taken = self._median(run, case, direction, deadline)
            except LocalError as error:
                _log.debug("%s is not measured on %s: %s", name, self._device, error)
                return None
            if taken is None:
                return None
            works.append(work_of(plan_blocks(case.shape, [0] * case.shape.blocks.size)))
            seconds.append(taken)
        return fitted(works, seconds)

    def _runner(self, name: str, memory: PageMemory, direction: Direction) -> Run:
        if name == PLAIN_COPY:
            return partial(_copy_plainly, self._scratch.pages, direction)
        copier = create(memory, Implementation(name))
        return copier.gather if direction.is_gather else copier.scatter

    def _median(self, run: Run, case: Case, direction: Direction, deadline: float) -> float | None:
        taken: list[float] = []
        for seed in range(_REPEATS + 1):  # the first one prepares and is not counted
            plan, slots = self._scratch.copy(case, direction, seed)
            synchronize(self._device)
            start = self._clock()
            if start > deadline:
                return None
            run(plan, slots)
            synchronize(self._device)
            taken.append(self._clock() - start)
        return statistics.median(taken[1:])


def _grid(kind: LayoutKind) -> list[Point]:
    points = [Point(*sizes) for sizes in product(_SPANS[kind], _PLANES, _ROWS[kind])]
    return [point for point in points if math.prod(point) <= _MOST_BYTES]


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
