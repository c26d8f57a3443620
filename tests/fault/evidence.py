"""Whether a fault struck at its phase, and before it could do no more harm. Pure values.

A cell whose fault came too late has shown nothing, so it fails.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.fault.cells import SAME_HOST, Cell

Counts = dict[str, int]
_BEFORE_READS = ("after_locate", "after_lease")
_SILENT = ("kill", "stop", "cut")


@dataclass(frozen=True)
class Struck:
    """A fetch that was struck.

    Attributes:
        cell: of the matrix.
        victim: who was struck.
        num_chunks: wanted.
        num_arrived: when the fault struck.
        is_large: many windows from both holders.
    """

    cell: Cell
    victim: str
    num_chunks: int
    num_arrived: int
    is_large: bool

    def phase_problems(self) -> Iterator[str]:
        """Yields what shows that the fetch was not at the phase."""
        if self.cell.phase in _BEFORE_READS:
            is_there = self.num_arrived == 0
        else:
            is_there = 0 < self.num_arrived < self.num_chunks
        if not is_there:
            yield f"the fault struck when {self.num_arrived} of {self.num_chunks} had arrived"

    def outcome_problems(self, num_delivered: int, num_by_source: Counts) -> Iterator[str]:
        """Yields what shows that the fetch did not feel the fault."""
        if self.cell.role == "holder" and self._hinders_holder:
            num_served = num_by_source.get(self.victim, 0)
            most = 0 if self._silences_holder else self.num_chunks - 1
            if num_served > most:
                yield f"{self.victim} served {num_served} chunks, {most} at most if it was struck"
        if self.cell.role == "reader" and self._starves and num_delivered == self.num_chunks:
            yield "the fetch is whole, so the reader was not struck"

    @property
    def must_mismatch(self) -> bool:
        """True if the fetch cannot but meet a changed byte."""
        return self.cell.fault == "flip" and self.cell.phase == "after_lease"

    @property
    def _hinders_holder(self) -> bool:
        """Same-host copies read the memory of a process that stands still."""
        if self.cell.fault == "flip":
            return False
        return self.cell.fault != "stop" or self.cell.channel not in SAME_HOST

    @property
    def _silences_holder(self) -> bool:
        return self.cell.fault in _SILENT and self.cell.phase in _BEFORE_READS

    @property
    def _starves(self) -> bool:
        """Without a lease a stop is short; slow holders may bring a small fetch to its end."""
        match self.cell.fault:
            case "stop":
                return self.cell.phase != "after_locate"
            case "slow":
                return self.is_large
            case _:
                return True


def counter_problems(cell: Cell, counters: Counts) -> Iterator[str]:
    """Yields what shows that not one of a cell's fetches met the fault while it was reading."""
    if cell.fault == "flip" and not counters.get("digest_mismatches"):
        yield "no changed byte was ever read"
    is_remote = cell.channel not in SAME_HOST and cell.role == "holder"
    is_silent = is_remote and cell.fault in {"stop", "cut"}
    if is_silent and cell.phase not in _BEFORE_READS and not counters.get("reads_given_up"):
        yield "no read was ever given up"
