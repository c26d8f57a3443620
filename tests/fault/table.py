"""The table of the fault matrix in a Markdown file: made, read back, replaced. Pure values."""

import itertools
from collections.abc import Mapping

from tests.fault.cells import CHANNELS, FAULTS, NO_NETWORK, NO_POOL, PHASES, ROLES, Cell

BEGIN = "<!-- matrix: written by python -m tests.fault.matrix --all --write -->"
END = "<!-- matrix: end -->"
_NOT_RUN = "not run"
_MARKS = {NO_NETWORK: "— (1)", NO_POOL: "— (2)"}


def updated(text: str, words: Mapping[Cell, str]) -> str:
    """Returns the text with the table between the markers replaced; other cells are kept."""
    head, _, rest = text.partition(BEGIN)
    old, _, tail = rest.partition(END)
    known = {**_parsed(old), **words}
    return "\n".join([head + BEGIN, *_lines(known), END + tail])


def _lines(words: Mapping[Cell, str]) -> list[str]:
    lines = [
        "| channel | role | fault | " + " | ".join(f"`{phase}`" for phase in PHASES) + " |",
        "|---" * (3 + len(PHASES)) + "|",
    ]
    for axes in itertools.product(CHANNELS, ROLES, FAULTS):
        cells = [Cell(*axes, phase) for phase in PHASES]
        texts = [_MARKS.get(cell.why_not) or words.get(cell, _NOT_RUN) for cell in cells]
        lines.append("| " + " | ".join((*axes, *texts)) + " |")
    notes = [f"{mark[2:]} does not exist: {reason}." for reason, mark in _MARKS.items()]
    return [*lines, "", "  \n".join(notes)]


def _parsed(table: str) -> dict[Cell, str]:
    words: dict[Cell, str] = {}
    for line in table.splitlines():
        fields = [field.strip() for field in line.strip("| ").split("|")]
        if len(fields) == 3 + len(PHASES) and fields[0] in CHANNELS:
            cells = [Cell(fields[0], fields[1], fields[2], phase) for phase in PHASES]
            words |= dict(zip(cells, fields[3:], strict=True))
    return words
