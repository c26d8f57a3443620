"""One cell of the fault matrix, run: three fetches are struck, and what must hold is looked at.

Fetch 1 is the first contact and small (4 MiB, inline reads). Fetch 2 is large (32 MiB, lanes, both
holders) over known links; a stopped or cut victim stays so until the reader has fenced it. Fetch 3
is small, over known links, and goes ahead of the directory unless that is its phase. After each the
victim is healed and everything is fetched again.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.fault.aftermath import BUDGET_S, OVER_S, SMALL, Aftermath
from tests.fault.cells import Cell
from tests.fault.cluster import Answer, Cluster, NoAnswerError
from tests.fault.evidence import Struck, counter_problems
from tests.fault.faults import Fault
from tests.fault.peer_process import NUM_CHUNKS

_MOST_FETCHES = 5
_MISSES = 2  # after so many wrong guesses the directory is asked first


@dataclass
class Verdict:
    """What became of a cell.

    Attributes:
        cell: which.
        problems: what did not hold; empty if the cell passed.
        fetches: how each struck fetch ended.
        seconds: it took.
        log: last lines of the processes' logs, if there are problems.
    """

    cell: Cell
    problems: list[str] = field(default_factory=list)
    fetches: list[str] = field(default_factory=list)
    seconds: float = 0.0
    log: list[str] = field(default_factory=list)


def run_cell(cell: Cell) -> Verdict:
    """Runs a cell in processes of its own."""
    verdict = Verdict(cell)
    started_s = time.monotonic()
    transports = ("tcp",) if cell.channel == "nixl-tcp" else ()
    channel = cell.channel if cell.channel in {"shm", "tcp"} else "nixl"
    with Cluster(transports, cell.has_network, channel=channel) as cluster:
        run = _Run(cell, cluster, verdict)
        try:
            run.strike_thrice()
        except (NoAnswerError, AssertionError, OSError) as error:
            run.fail([f"{type(error).__name__}: {error}"])
        if verdict.problems:
            verdict.log = cluster.log(40)
    verdict.seconds = time.monotonic() - started_s
    return verdict


class _Run:
    def __init__(self, cell: Cell, cluster: Cluster, verdict: Verdict) -> None:
        self._cell = cell
        self._cluster = cluster
        self._aftermath = Aftermath(cluster)
        self._verdict = verdict
        self._number = 0
        self._num_mismatches = 0
        self._has_fenced = cell.fault in {"stop", "cut"}

    def fail(self, problems: Iterable[str]) -> None:
        """Notes what did not hold."""
        self._verdict.problems += [f"fetch {self._number}: {problem}" for problem in problems]

    def strike_thrice(self) -> None:
        """All of the cell; a fetch more while there are more files or threads than before it."""
        for self._number, num_chunks in ((1, SMALL), (2, NUM_CHUNKS), (3, SMALL)):
            if self._number == 3:
                self._aftermath.settle_figures(self._has_fenced)
            self._strike_once(num_chunks)
        while growth := self._aftermath.growth():
            if self._number == _MOST_FETCHES:
                self.fail([f"more files or threads at every fault: {growth}"])
                break
            self._aftermath.settle_figures(self._has_fenced)
            self._number += 1
            self._strike_once(SMALL)
        self.fail(counter_problems(self._cell, self._cluster.reader.ask("counters")))

    def _strike_once(self, num_chunks: int) -> None:
        struck, fault = self._go_to_phase(num_chunks)
        fault.strike()
        match self._cell.role, self._cell.fault:
            case "reader", "kill":
                self._verdict.fetches.append(f"killed at {struck.num_arrived}/{num_chunks}")
                self.fail(self._aftermath.lease_problems(self._cluster.holders))
                fault.heal()
            case "reader", "stop":
                self.fail(fault.let_leases_end())
                fault.heal()
                self._take(struck)
            case _:
                self._take(struck)
                if self._number == 2 and self._has_fenced:
                    self.fail(self._aftermath.quarantine_problems())
                fault.heal()
        self.fail(self._aftermath.problems())

    def _go_to_phase(self, num_chunks: int) -> tuple[Struck, Fault]:
        """Starts a fetch that stands still at the phase, and says whom the fault will strike."""
        reader = self._cluster.reader
        likely = self._cluster.holders[0]
        if self._cell.phase == "after_locate":
            likely = self._rehearse(num_chunks) if self._number > 1 else likely
            self._distrust()
        reader.say(do="fetch", num=num_chunks, budget_s=BUDGET_S, phase=self._cell.phase)
        num_arrived = reader.hear_phase()
        fault = Fault(self._cell, self._cluster, likely, is_silent=self._number == 2)
        is_large = num_chunks == NUM_CHUNKS
        struck = Struck(self._cell, fault.victim, num_chunks, num_arrived, is_large)
        self.fail(struck.phase_problems())
        return struck, fault

    def _rehearse(self, num_chunks: int) -> str:
        """Returns the holder that serves most of a fetch that nobody strikes."""
        reader = self._cluster.reader
        self._distrust()
        sources: dict[str, int] = reader.ask("fetch", num=num_chunks)["sources"]
        reader.ask("release")
        reader.ask("clear")
        self.fail(self._aftermath.lease_problems(self._cluster.holders))
        return max(sources, key=lambda name: sources[name])

    def _distrust(self) -> None:
        """Makes the reader ask the directory: whom it would have asked first had nothing."""
        for _ in range(_MISSES):
            self._cluster.reader.ask("miss")

    def _take(self, struck: Struck) -> None:
        """Lets the fetch go on, and looks at what it delivered."""
        answer = self._cluster.reader.go_on()
        sources = " ".join(f"{name}:{number}" for name, number in answer["sources"].items())
        self._verdict.fetches.append(
            f"{self._cell.fault} of {struck.victim} at {struck.num_arrived}:"
            f" {answer['num']}/{struck.num_chunks} {answer['reason']}"
            f" in {answer['seconds']:.3f} s ({sources}) {answer['detail']}"
        )
        if answer["wrong"] or answer["num"] != answer["num_given"]:
            self.fail([f"wrong bytes in chunks {answer['wrong']} of {answer['num_given']}"])
        is_stopped = (self._cell.role, self._cell.fault) == ("reader", "stop")
        due_s = max(BUDGET_S, answer["go_s"]) if is_stopped else BUDGET_S
        if answer["seconds"] > due_s + OVER_S:
            self.fail([f"returned after {answer['seconds']:.3f} s, due after {due_s:.3f} s"])
        self._expect_a_reason(answer, struck.num_chunks)
        self.fail(struck.outcome_problems(answer["num"], answer["sources"]))
        self._expect_a_mismatch(struck)

    def _expect_a_reason(self, answer: Answer, num_chunks: int) -> None:
        is_complete = answer["num"] == num_chunks
        if is_complete != (answer["reason"] == "complete"):
            self.fail([f"{answer['num']} chunks with reason {answer['reason']}"])
        if not is_complete and not answer["detail"]:
            self.fail([f"{answer['reason']} without detail"])
        if not is_complete and self._cell.role != "reader":
            self.fail([f"{answer['num']} chunks, but another holder has all: {answer['detail']}"])

    def _expect_a_mismatch(self, struck: Struck) -> None:
        num_mismatches = self._cluster.reader.count("digest_mismatches")
        if struck.must_mismatch and num_mismatches == self._num_mismatches:
            self.fail(["no changed byte was read"])
        self._num_mismatches = num_mismatches
