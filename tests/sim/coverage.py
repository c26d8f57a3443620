"""Which faults met fetches in which phases."""

from collections import Counter
from collections.abc import Iterable, Mapping

from p2p.backend.actions import Phase

BEFORE_LOCATE = "before_locate"
PHASES = (BEFORE_LOCATE, *(phase.value for phase in Phase))
Cells = Counter[tuple[str, str]]


def table(cells: Mapping[tuple[str, str], int]) -> list[str]:
    """Returns the lines of a table fault by phase."""
    faults = sorted({fault for fault, _ in cells})
    lines = [f"{'fault':18}" + "".join(f"{phase:>15}" for phase in PHASES)]
    for fault in faults:
        counts = "".join(f"{cells.get((fault, phase), 0):15}" for phase in PHASES)
        lines.append(f"{fault:18}{counts}")
    return lines


def empty_cells(cells: Mapping[tuple[str, str], int], faults: Iterable[str]) -> list[str]:
    """Returns the combinations that never happened."""
    return [f"{f} {phase}" for f in faults for phase in PHASES if not cells.get((f, phase), 0)]
