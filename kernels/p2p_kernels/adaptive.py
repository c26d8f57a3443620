"""The adaptive choice: for every copy the implementation that is expected to be fastest.

The first copy of an implementation per layout and direction is compared with the reference on a
few rows. One that was wrong, or could not copy after all, is struck for good: logged, counted, and
the next is used for the same copy. Bytes that it wrote where none belong cannot be undone, so that
the tests look for those.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from p2p.errors import LocalError
from p2p_kernels.base import Copier, Slot
from p2p_kernels.check import first_wrong_row
from p2p_kernels.costs import Cost, Direction, LayoutKind, layout_kind, work_of
from p2p_kernels.memory import PageMemory
from p2p_kernels.plan import CopyPlan, CopyShape

_log = logging.getLogger(__name__)
_CLEARLY_FASTER = 0.8
_MOST_PROVEN = 256

CostKey: TypeAlias = tuple[LayoutKind, Direction]
_ShapeKey: TypeAlias = tuple[object, ...]


@dataclass(frozen=True, eq=False)
class Candidate:
    """An implementation that can run here.

    Attributes:
        copier: copies.
        seed: what copies are taken to cost where nobody measured.
        costs: measured costs.
    """

    copier: Copier
    seed: Cost
    costs: Mapping[CostKey, Cost] = field(default_factory=dict)


class AdaptiveCopier:
    """Copies by the cheapest of several candidates.

    Args:
        memory: the paged cache.
        candidates: at least one. Those with measured costs go before those without; a later one
            must be a fifth faster, as it takes threads or memory, or is a last resort.
    """

    name = "auto"

    def __init__(self, memory: PageMemory, candidates: Sequence[Candidate]) -> None:
        self.memory = memory
        self.candidates = tuple(candidates)
        self.struck: dict[str, str] = {}
        """Why an implementation is not used any more, by its name."""
        self._checked: set[tuple[str, _ShapeKey]] = set()
        self._kinds: dict[_ShapeKey, LayoutKind] = {}
        # By the identity of the shape, which nearly all copies share; kept alive by the value.
        self._proven: dict[tuple[int, int, Direction], tuple[CopyShape, Copier]] = {}

    def gather(self, plan: CopyPlan, slots: Sequence[Slot]) -> None:
        """See `Copier.gather`."""
        self._copy(plan, slots, self._direction(slots, Direction.GATHER, Direction.GATHER_TO_HOST))

    def scatter(self, plan: CopyPlan, slots: Sequence[Slot]) -> None:
        """See `Copier.scatter`."""
        to, from_host = Direction.SCATTER, Direction.SCATTER_FROM_HOST
        self._copy(plan, slots, self._direction(slots, to, from_host))

    def choices(self) -> dict[str, str]:
        """Returns what each candidate is used for so far, or why it is not, by its name."""
        uses: dict[str, set[str]] = {each.copier.name: set() for each in self.candidates}
        for (_, _, direction), (_, copier) in list(self._proven.items()):
            uses[copier.name].add(direction)
        idle = "can run, was not the fastest for a copy so far"
        return {
            name: self.struck.get(name, "") or ", ".join(sorted(used)) or idle
            for name, used in uses.items()
        }

    def choice(self, plan: CopyPlan, direction: Direction) -> Copier:
        """Returns the copier that a plan is given to.

        Raises:
            LocalError: all were struck.
        """
        kind, work = self._kind(plan.shape), work_of(plan)
        left = [each for each in self.candidates if each.copier.name not in self.struck]
        if not left:
            raise LocalError(f"no implementation of kernels is left: {self.struck}")
        measured = [each.costs.get((kind, direction)) for each in left]
        costs = measured if any(measured) else [each.seed for each in left]
        seconds = [None if cost is None else cost.seconds(work) for cost in costs]
        return left[cheapest(seconds)].copier

    def _copy(self, plan: CopyPlan, slots: Sequence[Slot], direction: Direction) -> None:
        if not plan.num_chunks:
            return
        size = (id(plan.shape), plan.num_chunks, direction)
        proven = self._proven.get(size)
        if proven is not None and proven[1].name not in self.struck:
            _run(proven[1], plan, slots, direction)
            return
        if len(self._proven) >= _MOST_PROVEN:
            self._proven.clear()
        self._proven[size] = plan.shape, self._copy_and_prove(plan, slots, direction)

    def _copy_and_prove(
        self, plan: CopyPlan, slots: Sequence[Slot], direction: Direction
    ) -> Copier:
        """Copies; returns the copier that did, and that may do so again unchecked."""
        while True:
            copier = self.choice(plan, direction)
            key = (copier.name, (direction, *_shape_key(plan.shape)))
            if key in self._checked:
                _run(copier, plan, slots, direction)
                return copier
            wrong = self._first_copy(copier, plan, slots, direction)
            if wrong is None:
                self._checked.add(key)
                return copier
            self.struck[copier.name] = wrong
            _log.warning(
                "%s is not used for kernels on %s any more: %s",
                copier.name,
                self.memory.spec.device,
                wrong,
            )

    def _first_copy(
        self, copier: Copier, plan: CopyPlan, slots: Sequence[Slot], direction: Direction
    ) -> str | None:
        """Copies; returns what was wrong with it, if anything."""
        try:
            _run(copier, plan, slots, direction)
        except LocalError as error:
            return str(error)
        where = first_wrong_row(plan, slots, self.memory)
        return None if where is None else f"wrong bytes after {direction}: {where}"

    def _kind(self, shape: CopyShape) -> LayoutKind:
        key = _shape_key(shape)
        known = self._kinds.get(key)
        if known is None:
            known = self._kinds[key] = layout_kind(shape)
        return known

    def _direction(
        self, slots: Sequence[Slot], on_device: Direction, with_host: Direction
    ) -> Direction:
        if self.memory.spec.device == "cpu" or not slots:
            return on_device
        slot_device = str(getattr(slots[0], "device", "cpu"))
        return with_host if slot_device == "cpu" else on_device


def cheapest(expected: Sequence[float | None]) -> int:
    """Returns the place of the first cost than which no later one is clearly less.

    Args:
        expected: seconds; none is more than any.
    """
    best = 0
    for place, seconds in enumerate(expected):
        known = expected[best]
        if seconds is not None and (known is None or seconds < known * _CLEARLY_FASTER):
            best = place
    return best


def _run(copier: Copier, plan: CopyPlan, slots: Sequence[Slot], direction: Direction) -> None:
    copy = copier.gather if direction.is_gather else copier.scatter
    copy(plan, slots)


def _shape_key(shape: CopyShape) -> _ShapeKey:
    """Returns what tells the shapes of one cache apart."""
    return shape.chunk, shape.heads, shape.group_tokens
