"""One cell of the fault matrix, run: three fetches are struck, and what must hold is looked at.

Fetch 1 is the first contact and small (4 MiB, inline reads). Fetch 2 is large (32 MiB, lanes, both
holders) over known links; a stopped or cut victim stays so until the reader has fenced it. Fetch 3
is small, over known links, and may go ahead of the directory. After each the victim is healed and
everything is fetched again.
"""

import time
from dataclasses import dataclass, field

from tests.fault.cells import Cell
from tests.fault.cluster import SEEDS, Answer, Cluster, NoAnswerError
from tests.fault.faults import Fault, leases_end, until
from tests.fault.peer_process import NUM_CHUNKS

BUDGET_S = 2.0
OVER_S = 0.1  # a fetch may be late by this
SMALL = 32
_SETTLED_S = 10.0
_HEALED_S = 20.0
_LATE_BYTES_S = 0.2  # bytes that come late would be here by then


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
    transports = ("tcp",) if cell.channel == "tcp" else ()
    with Cluster(transports, cell.has_network) as cluster:
        run = _Run(cell, cluster, verdict)
        try:
            run.strike_thrice()
        except (NoAnswerError, AssertionError, OSError) as error:
            run.fail(f"{type(error).__name__}: {error}")
        if verdict.problems:
            verdict.log = cluster.log(8)
    verdict.seconds = time.monotonic() - started_s
    return verdict


class _Run:
    def __init__(self, cell: Cell, cluster: Cluster, verdict: Verdict) -> None:
        self._cell = cell
        self._cluster = cluster
        self._verdict = verdict
        self._number = 0
        self._figures: dict[int, tuple[int, int]] = {}

    def fail(self, problem: str) -> None:
        """Notes what did not hold."""
        self._verdict.problems.append(f"fetch {self._number}: {problem}")

    def strike_thrice(self) -> None:
        """All of the cell."""
        for self._number, num_chunks in ((1, SMALL), (2, NUM_CHUNKS), (3, SMALL)):
            self._strike_once(num_chunks)
            if self._number == 2:
                self._use_every_link()
                self._figures = self._figures_now()
        if not until(lambda: not self._growth(), _SETTLED_S):
            self.fail(f"more files or threads than before: {self._growth()}")

    def _strike_once(self, num_chunks: int) -> None:
        fault = Fault(self._cell, self._cluster, is_silent=self._number == 2)
        reader = self._cluster.reader
        reader.say(do="fetch", num=num_chunks, budget_s=BUDGET_S, phase=self._cell.phase)
        answer = reader.hear()
        if "at" not in answer:
            self._on_phase_missed(answer)
            return
        fault.strike()
        if fault.victim == "reader" and self._cell.fault == "kill":
            self._verdict.fetches.append("killed")
            self._expect_no_leases()
            fault.heal()
        elif fault.victim == "reader" and self._cell.fault == "stop":
            self._verdict.problems += fault.let_leases_end()
            fault.heal()
            self._take(num_chunks)
        else:
            self._take(num_chunks)
            if self._number == 2 and self._cell.fault in {"stop", "cut"}:
                self._expect_no_quarantine()
            fault.heal()
        self._after()

    def _on_phase_missed(self, answer: Answer) -> None:
        """A reader that is sure of a holder does not ask the directory."""
        is_sure = self._number == 3 and self._cell.phase == "after_locate"
        if not is_sure or answer["reason"] != "complete" or answer["wrong"]:
            self.fail(f"the phase was not reached: {answer}")
        self._cluster.reader.ask("release")
        self._cluster.reader.ask("clear")

    def _take(self, num_chunks: int) -> None:
        """Lets the fetch go on, and looks at what it delivered."""
        reader = self._cluster.reader
        reader.say()
        answer = reader.hear()
        sources = " ".join(f"{name}:{number}" for name, number in answer["sources"].items())
        self._verdict.fetches.append(
            f"{answer['num']}/{num_chunks} {answer['reason']} in {answer['seconds']:.3f} s"
            f" ({sources}) {answer['detail']}"
        )
        if answer["wrong"]:
            self.fail(f"wrong bytes in chunks {answer['wrong']}")
        is_stopped = self._cell.role == "reader" and self._cell.fault == "stop"
        due_s = max(BUDGET_S, answer["go_s"]) if is_stopped else BUDGET_S
        if answer["seconds"] > due_s + OVER_S:
            self.fail(f"returned after {answer['seconds']:.3f} s, due after {due_s:.3f} s")
        self._expect_a_reason(answer, num_chunks)

    def _expect_a_reason(self, answer: Answer, num_chunks: int) -> None:
        is_complete = answer["num"] == num_chunks
        if is_complete != (answer["reason"] == "complete"):
            self.fail(f"{answer['num']} chunks with reason {answer['reason']}")
        if not is_complete and not answer["detail"]:
            self.fail(f"{answer['reason']} without detail")
        if not is_complete and self._cell.role != "reader":
            self.fail(f"{answer['num']} chunks although b has all: {answer['detail']}")

    def _after(self) -> None:
        """Nothing leaks, nothing comes late, and both holders serve a whole fetch again."""
        reader = self._cluster.reader
        self._expect_no_quarantine()
        time.sleep(_LATE_BYTES_S)
        if wrong := reader.ask("recheck")["wrong"]:
            self.fail(f"bytes of delivered chunks {wrong} changed")
        reader.ask("release")
        self._expect_no_leases()
        counts = reader.ask("figures")["counters"]
        if counts["slots_free"] + counts["chunks"] != 2 * NUM_CHUNKS:
            self.fail(f"slots are missing: {counts}")
        self._expect_healed()

    def _expect_no_quarantine(self) -> None:
        reader = self._cluster.reader

        def is_empty() -> bool:
            count: int = reader.ask("figures")["counters"]["slots_quarantined"]
            return count == 0

        if not until(is_empty, _SETTLED_S):
            self.fail(f"slots stay in quarantine: {reader.ask('figures')}")

    def _expect_no_leases(self) -> None:
        killed = self._cell.role == "holder" and self._cell.fault == "kill"
        holders = ["b"] if killed else self._cluster.holders
        if not leases_end(self._cluster, holders):
            self.fail("leases stay")

    def _expect_healed(self) -> None:
        reader, wrong = self._cluster.reader, []
        last: Answer = {}

        def is_whole() -> bool:
            reader.ask("release")
            reader.ask("clear")
            answer = reader.ask("fetch", num=NUM_CHUNKS, budget_s=BUDGET_S)
            wrong.extend(answer["wrong"])
            last.update(answer)
            return len(answer["sources"]) == len(self._cluster.holders) and not answer["detail"]

        if not until(is_whole, _HEALED_S):
            self.fail(f"not healed: {last}")
        wrong += reader.ask("recheck")["wrong"]
        if wrong:
            self.fail(f"wrong bytes in chunks {wrong} after healing")
        for name in self._cluster.holders:
            if own := self._cluster.processes[name].ask("own")["wrong"]:
                self.fail(f"chunks {own} of {name} are not what it stored")
        reader.ask("release")
        reader.ask("clear")

    def _use_every_link(self) -> None:
        """Reads in every way from both holders: connections are made when first used."""
        a = self._cluster.processes["a"]
        for num_chunks in (NUM_CHUNKS, NUM_CHUNKS, SMALL):
            self._cluster.reader.ask("fetch", num=num_chunks)
            self._cluster.reader.ask("release")
            self._cluster.reader.ask("clear")
        leases_end(self._cluster, "a")
        a.ask("clear")
        self._cluster.reader.ask("fetch", num=SMALL)
        self._cluster.reader.ask("release")
        self._cluster.reader.ask("clear")
        a.ask("put", num=NUM_CHUNKS, seed=SEEDS["a"])

    def _figures_now(self) -> dict[int, tuple[int, int]]:
        found = {}
        for process in self._cluster.survivors().values():
            figures = process.ask("figures")
            found[process.process.pid] = (figures["fds"], figures["threads"])
        return found

    def _growth(self) -> dict[int, tuple[tuple[int, int], tuple[int, int]]]:
        """Returns, by process id, files and threads after fetches 2 and 3 where there are more."""
        return {
            pid: (self._figures[pid], now)
            for pid, now in self._figures_now().items()
            if pid in self._figures
            and any(n > m for n, m in zip(now, self._figures[pid], strict=True))
        }
