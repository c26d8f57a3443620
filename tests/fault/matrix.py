"""``python -m tests.fault.matrix --all | --core | --rotate SEED``: runs cells of the fault matrix.

``--only TEXT`` leaves those whose name contains the text. ``--write FILE`` brings the table in a
Markdown file up to date; cells that were not run keep what stands there.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fault.cells import CELLS, CORE, Cell, rotating
from tests.fault.rounds import Verdict, run_cell
from tests.fault.table import updated
from tests.net.namespaces import is_supported

if TYPE_CHECKING:
    from collections.abc import Iterable


def chosen(options: argparse.Namespace) -> Sequence[Cell]:
    """Returns the cells that the command line names."""
    cells: Iterable[Cell] = CELLS if options.all else CORE if options.core else ()
    if options.rotate is not None:
        cells = (*cells, *rotating(options.rotate))
    return [cell for cell in cells if options.only in cell.name]


def show(verdict: Verdict) -> None:
    """Prints one cell."""
    word = "FAILED" if verdict.problems else "passed"
    print(f"{word} {verdict.cell.name} in {verdict.seconds:.1f} s", flush=True)
    for line in (*verdict.fetches, *verdict.problems, *verdict.log):
        print(f"    {line}", flush=True)


def main() -> int:
    """Runs and prints; 1 if a cell failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.matrix", description=__doc__)
    parser.add_argument("--all", action="store_true", help="every cell")
    parser.add_argument("--core", action="store_true", help="the cells that always run")
    parser.add_argument("--rotate", type=int, metavar="SEED", help="a part of the others")
    parser.add_argument("--only", default="", metavar="TEXT", help="cells named so")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each cell")
    parser.add_argument("--write", type=Path, metavar="FILE", help="update the table in it")
    options = parser.parse_args()
    verdicts: dict[Cell, Verdict] = {}
    for cell in chosen(options):
        if cell.has_network and (reason := is_supported()):
            print(f"skipped {cell.name}: {reason}")
            continue
        verdicts[cell] = verdict = run_cell(cell)
        if options.json:
            print(json.dumps(asdict(verdict)), flush=True)
        else:
            show(verdict)
    num_failed = sum(bool(verdict.problems) for verdict in verdicts.values())
    if not options.json:
        print(f"{len(verdicts)} cells, {num_failed} failed")
    if options.write:
        words = {cell: "FAILED" if v.problems else "passed" for cell, v in verdicts.items()}
        options.write.write_text(updated(options.write.read_text(), words))
    return 1 if num_failed else 0


if __name__ == "__main__":
    sys.exit(main())
