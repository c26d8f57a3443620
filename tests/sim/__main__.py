"""``python -m tests.sim --seeds N [--from S]``: runs seeds and tells what broke.

``--trace SEED`` prints every event of one seed; ``--search DEFECT`` looks for seeds that find a
deliberate defect, or ``all`` of them, and records them. Where at least as many seeds are run as in
CI, every cell of the coverage table must have been met often enough.
"""

import argparse
import json
import os
import sys

from tests.sim.coverage import LEAST, NUM_CI_SEEDS, WORK, rare_work, table, thin_cells
from tests.sim.defects import DEFECTS
from tests.sim.run import Report, cells_of, run_seed, run_seeds, totals, work_of
from tests.sim.search import record, search

_ALL = "all"


def main() -> int:
    """Runs and prints; 1 if a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first one")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--json", action="store_true", help="one line of JSON at the end")
    parser.add_argument("--strict", action="store_true", help="known flaws count as failures")
    parser.add_argument(
        "--search",
        choices=[_ALL, *(defect.name for defect in DEFECTS)],
        help="look for seeds that find this deliberate defect, and record them",
    )
    parser.add_argument("--trace", type=int, help="run this seed alone and print every event")
    options = parser.parse_args()
    if options.trace is not None:
        return _trace(options.trace)
    if options.search:
        names = [options.search] if options.search != _ALL else [d.name for d in DEFECTS]
        return _search(names, options.seeds, options.jobs)
    seeds = range(options.first, options.first + options.seeds)
    reports = run_seeds(seeds, options.jobs if len(seeds) > 16 else 1)
    found, cells, work = totals(reports), cells_of(reports), work_of(reports)
    failed = [r for r in reports if r.is_failure or (options.strict and r.problem)]
    for report in failed[:5]:
        _print_failure(report)
    thin = [*thin_cells(cells), *rare_work(work)] if len(seeds) >= NUM_CI_SEEDS else []
    if options.json:
        coverage = {f"{fault} {phase}": number for (fault, phase), number in sorted(cells.items())}
        print(json.dumps({**found, "thin_cells": thin, "coverage": coverage, "work": work}))
    else:
        for name, value in found.items():
            print(f"{name:12} {value}")
        print(*table(cells), sep="\n")
        print(*(f"{name:24} {work[name]}" for name in WORK), sep="\n")
        print(*(f"fewer than {LEAST} times: {cell}" for cell in thin), sep="\n")
    return 1 if failed or thin else 0


def _search(names: list[str], num_seeds: int, num_jobs: int) -> int:
    """Searches for seeds that find defects, and records them."""
    found = search(names, num_seeds, num_jobs)
    for name, seeds in found.items():
        print(f"{name}: {seeds or 'no seed finds it'}")
    record(found)
    return 0 if all(found.values()) else 1


def _trace(seed: int) -> int:
    report = run_seed(seed, keeps_trace=True)
    print(*report.last, sep="\n")
    print(f"seed {seed}: {report.problem or 'no promise was broken'}\n{report.place}")
    return 1 if report.problem else 0


def _print_failure(report: Report) -> None:
    print(f"seed {report.seed}: {report.problem}\n{report.place}", file=sys.stderr)
    print(*report.last, sep="\n", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
