"""``python -m tests.sim --seeds N [--from S]``: runs seeds and tells what broke.

``--trace SEED`` prints every event of one seed; ``--defect NAME`` searches a seed for a defect.
"""

import argparse
import json
import os
import sys

from tests.sim.coverage import table
from tests.sim.defects import DEFECTS
from tests.sim.run import Report, cells_of, run_seed, run_seeds, totals


def main() -> int:
    """Runs and prints; 1 if a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first one")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--json", action="store_true", help="one line of JSON at the end")
    parser.add_argument("--strict", action="store_true", help="known flaws count as failures")
    parser.add_argument("--defect", help="search for a seed that finds this deliberate defect")
    parser.add_argument("--trace", type=int, help="run this seed alone and print every event")
    options = parser.parse_args()
    if options.trace is not None:
        return _trace(options.trace)
    if options.defect:
        return _search(options.defect, options.seeds)
    seeds = range(options.first, options.first + options.seeds)
    reports = run_seeds(seeds, options.jobs if len(seeds) > 16 else 1)
    found, cells = totals(reports), cells_of(reports)
    failed = [r for r in reports if r.is_failure or (options.strict and r.problem)]
    for report in failed[:5]:
        _print_failure(report)
    if options.json:
        coverage = {f"{fault} {phase}": number for (fault, phase), number in sorted(cells.items())}
        print(json.dumps({**found, "coverage": coverage}))
    else:
        for name, value in found.items():
            print(f"{name:12} {value}")
        print(*table(cells), sep="\n")
    return 1 if failed else 0


def _search(name: str, num_seeds: int) -> int:
    defect = next(defect for defect in DEFECTS if defect.name == name)
    seed = defect.find(num_seeds)
    print(f"{name}: {'no seed finds it' if seed is None else f'seed {seed} finds it'}")
    return 1 if seed is None else 0


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
