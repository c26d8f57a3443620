"""The fault matrix: a core that always runs, and a part of the rest that each commit changes.

A cell in which the machine was too slow, so that a fault came at the wrong moment or a fetch ended
late, is run a second time, and that counts. Everything else fails at once.
"""

import subprocess

import pytest

from tests.fault.cells import CORE, Cell, rotating
from tests.fault.rounds import run_cell
from tests.net.namespaces import is_supported

_BY_CHANCE = ("returned after", "had arrived", "was not struck", "if it was struck")
pytestmark = [pytest.mark.fault, pytest.mark.slow]


def commit_number() -> int:
    """Returns a number that changes with the commit; 0 outside of a repository."""
    try:
        words = ["git", "rev-parse", "HEAD"]
        found = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return 0
    return int(found.stdout.strip()[:8] or "0", 16) if found.returncode == 0 else 0


def is_by_chance(problem: str) -> bool:
    """Returns whether a slow machine alone can be the cause."""
    return any(text in problem for text in _BY_CHANCE)


@pytest.mark.parametrize("cell", [*CORE, *rotating(commit_number())], ids=lambda cell: cell.name)
def test_cell(cell: Cell) -> None:
    if cell.has_network and (reason := is_supported()):
        pytest.skip(reason)
    verdict = run_cell(cell)
    if verdict.problems and all(is_by_chance(problem) for problem in verdict.problems):
        print(f"run again: {verdict.problems}")
        verdict = run_cell(cell)
    assert not verdict.problems, "\n".join([*verdict.fetches, *verdict.problems, *verdict.log])
