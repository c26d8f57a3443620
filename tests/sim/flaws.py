"""Flaws of the production code that the simulator found and that are not mended yet.

A run that ends in one of them counts as known, not as failed (`--strict` counts it). Whoever mends
one removes its entry here; its seed then has to pass.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Flaw:
    """A known flaw.

    Attributes:
        name: of the flaw.
        problem: part of what a run reports that met it.
        seed: that met it when it was recorded.
        cause: what is wrong, and what mends it.
    """

    name: str
    problem: str
    seed: int
    cause: str


OPEN: tuple[Flaw, ...] = ()


def flaw_of(problem: str) -> Flaw | None:
    """Returns the known flaw behind a problem."""
    return next((flaw for flaw in OPEN if problem and flaw.problem in problem), None)
