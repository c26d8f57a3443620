"""``python -m tests.sim --seeds N [--from S] [--json]``: runs seeds and tells what broke."""

import argparse
import json
import sys
from collections import Counter

from tests.sim.world import Report, run_seed


def summary(reports: list[Report]) -> dict[str, object]:
    """Returns totals, outcomes, and the seeds that failed with their reasons."""
    outcomes: Counter[str] = Counter()
    for report in reports:
        outcomes.update(report.outcomes)
    return {
        "seeds": len(reports),
        "failures": {report.seed: report.problem for report in reports if report.problem},
        "events": sum(report.events for report in reports),
        "fetches": sum(report.fetches for report in reports),
        "outcomes": dict(outcomes.most_common()),
    }


def main() -> int:
    """Runs and prints; 1 if a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first one")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    found = summary([run_seed(seed) for seed in seeds])
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:10} {value}")
    return 1 if found["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
