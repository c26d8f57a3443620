"""Runs seeds and reports what happened."""

import traceback
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

from tests.sim.coverage import Cells
from tests.sim.flaws import flaw_of
from tests.sim.world import World


@dataclass(frozen=True)
class Report:
    """What one run did.

    Attributes:
        problem: the promise that was broken, or the exception that got out; empty if none.
        last: the newest events, if there is a problem.
        place: where the exception came from.
    """

    seed: int
    events: int
    fetches: int
    trace_hash: int
    lengths: dict[str, int]
    reasons: dict[str, int]
    cells: dict[tuple[str, str], int]
    work: dict[str, int]
    problem: str = ""
    place: str = ""
    last: list[str] = field(default_factory=list)

    @property
    def is_failure(self) -> bool:
        """True if a promise was broken, and not by a flaw that is known."""
        return bool(self.problem) and flaw_of(self.problem) is None


def run_seed(seed: int, keeps_trace: bool = False) -> Report:
    """Runs one seed to its end, or to the first broken promise."""
    world, problem, place = World(seed, keeps_trace), "", ""
    try:
        world.run()
    except Exception as error:  # noqa: BLE001  whatever production code raises is a finding
        problem = f"{type(error).__name__}: {error}"
        place = "".join(traceback.format_tb(error.__traceback__)[-4:])
    return Report(
        seed=seed,
        events=world.clock.num_events,
        fetches=world.num_fetches,
        trace_hash=world.clock.trace_hash,
        lengths=dict(world.lengths),
        reasons=dict(world.reasons),
        cells=dict(world.coverage.cells),
        work=world.done(),
        problem=problem,
        place=place,
        last=list(world.clock.last) if problem or keeps_trace else [],
    )


def run_seeds(seeds: Sequence[int], num_jobs: int = 1) -> list[Report]:
    """Runs many seeds, in several processes if there are many."""
    if num_jobs < 2:
        return [run_seed(seed) for seed in seeds]
    with ProcessPoolExecutor(num_jobs, get_context("spawn")) as pool:
        return list(pool.map(run_seed, seeds, chunksize=8))


def totals(reports: Sequence[Report]) -> dict[str, object]:
    """Returns sums over all runs."""
    lengths: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for report in reports:
        lengths.update(report.lengths)
        reasons.update(report.reasons)
    num = max(1, sum(lengths.values()))
    return {
        "seeds": len(reports),
        "failures": sum(report.is_failure for report in reports),
        "failed_seeds": [report.seed for report in reports if report.is_failure],
        "known_flaws": dict(Counter(flaw.name for r in reports if (flaw := flaw_of(r.problem)))),
        "events": sum(report.events for report in reports),
        "fetches": sum(report.fetches for report in reports),
        "shares": {name: round(lengths[name] / num, 3) for name in ("full", "partial", "missed")},
        "reasons": dict(reasons.most_common()),
    }


def work_of(reports: Sequence[Report]) -> Counter[str]:
    """Returns how much of everything the instances have done, over all runs."""
    work: Counter[str] = Counter()
    for report in reports:
        work.update(report.work)
    return work


def cells_of(reports: Sequence[Report]) -> Cells:
    """Returns how often each fault met each phase, over all runs."""
    cells: Cells = Counter()
    for report in reports:
        cells.update(report.cells)
    return cells
