"""``python -m tests.fault.soak --minutes 10``: work under kills, without wrong bytes or growth.

A controller and four instances fetch, store and evict; every five seconds one of three instances is
killed and started again under its id. The fourth and the controller live from start to end: their
memory, files and threads must not grow.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Self

import msgspec

from tests.fault.cluster import Answer, NoAnswerError, Process
from tests.fault.figures import num_fds, num_threads, rss_bytes
from tests.fault.soak_peer import SoakSettings

SEEDS = {"survivor": 1, "x": 2, "y": 3, "z": 4}
VICTIMS = ("x", "y", "z")
_KILL_EACH_S = 5.0
_SAMPLE_EACH_S = 2.0
_WARM_S = 60.0
_MOST_DEATHS = 5  # then the soak ends
_RSS_GROWTH = 0.03
_FDS_GROWTH = 2.0  # between medians: a kill shortly before a sample leaves a few open


@dataclass(frozen=True)
class Sample:
    """What a process took at one time: bytes, files, threads."""

    at_s: float
    rss: float
    fds: float
    threads: float


@dataclass
class Findings:
    """What the soak found.

    Attributes:
        counts: over all instances.
        num_kills: of instances.
        deaths: instances that ended though nobody had killed them.
        samples: of the processes that live all the time, by name.
        counters: of the survivor, at the end.
    """

    counts: Counter[str] = field(default_factory=Counter)
    num_kills: int = 0
    deaths: list[str] = field(default_factory=list)
    samples: dict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    counters: dict[str, int] = field(default_factory=dict)

    def drift(self, name: str, warm_s: float) -> dict[str, float]:
        """Returns medians of the first and the last third after warm-up, and their growth."""
        samples = [sample for sample in self.samples[name] if sample.at_s >= warm_s]
        third = max(1, len(samples) // 3)
        first, last = _medians(samples[:third]), _medians(samples[-third:])
        return {
            "rss_mib": round(last.rss / 2**20, 1),
            "rss_growth_percent": round(100 * (last.rss / first.rss - 1), 2),
            "fds": last.fds,
            "fds_growth": last.fds - first.fds,
            "threads": last.threads,
            "threads_growth": last.threads - first.threads,
        }

    def problems(self, warm_s: float) -> list[str]:
        """Returns what must not be."""
        found = [f"{name} died by itself" for name in self.deaths]
        found += [
            f"{self.counts[name]} {name}"
            for name in ("chunks_wrong", "fetches_over_budget")
            if self.counts[name]
        ]
        for name in self.samples:
            drift = self.drift(name, warm_s)
            if drift["rss_growth_percent"] > 100 * _RSS_GROWTH:
                found.append(f"{name}: memory grew by {drift['rss_growth_percent']} %")
            if drift["fds_growth"] > _FDS_GROWTH or drift["threads_growth"] > 0:
                found.append(f"{name}: files or threads grew: {drift}")
        return found


def _medians(samples: Sequence[Sample]) -> Sample:
    if not samples:
        return Sample(0.0, 1.0, 0.0, 0.0)
    columns = ([getattr(s, name) for s in samples] for name in ("at_s", "rss", "fds", "threads"))
    return Sample(*(statistics.median(column) for column in columns))


class Soak:
    """The processes; a context manager.

    Args:
        transports: of UCX; empty for all.
    """

    def __init__(self, transports: tuple[str, ...]) -> None:
        self.findings = Findings()
        self._transports = transports
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed at exit)
        self._random = random.Random(0)  # noqa: S311
        self._processes: dict[str, Process] = {}
        self._controller = ""

    def run(self, seconds: float) -> None:
        """Works and kills for so long."""
        started_s = time.monotonic()
        kill_s, sample_s = started_s + _KILL_EACH_S, started_s
        while (now_s := time.monotonic()) < started_s + seconds:
            if len(self.findings.deaths) >= _MOST_DEATHS:
                return
            self._listen(now_s - started_s)
            if now_s >= sample_s:
                sample_s += _SAMPLE_EACH_S
                self._sample_controller(now_s - started_s)
            if now_s >= kill_s:
                kill_s += _KILL_EACH_S
                self._kill_one()
            time.sleep(0.1)

    def log(self) -> list[str]:
        """Returns the last lines that the processes have logged."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace").splitlines()[-12:]

    def _start(self, name: str) -> None:
        settings = SoakSettings(
            controller=self._controller,
            instance=name,
            seed=SEEDS[name],
            seeds=tuple(SEEDS.values()),
            transports=self._transports,
        )
        self._launch(name, "tests.fault.soak_peer", msgspec.json.encode(settings).decode())

    def _launch(self, name: str, *argv: str) -> None:
        self._processes[name] = Process([sys.executable, "-m", *argv], name, None, self._log)

    def _listen(self, at_s: float) -> None:
        for name in SEEDS:
            process = self._processes[name]
            for line in process.heard():
                self._take(name, line, at_s)
            if process.process.poll() is not None:
                self.findings.deaths.append(
                    f"{name} ({process.process.returncode}) at {at_s:.0f} s"
                )
                process.end()
                self._start(name)

    def _take(self, name: str, line: Answer, at_s: float) -> None:
        if "counts" not in line:
            return
        self.findings.counts.update(line["counts"])
        if name == "survivor":
            sample = Sample(at_s, line["rss"], line["fds"], line["threads"])
            self.findings.samples[name].append(sample)
            self.findings.counters = line["counters"]

    def _sample_controller(self, at_s: float) -> None:
        pid = self._processes["controller"].process.pid
        sample = Sample(at_s, rss_bytes(pid), num_fds(pid), num_threads(pid))
        self.findings.samples["controller"].append(sample)

    def _kill_one(self) -> None:
        victim = self._random.choice(VICTIMS)
        self._processes[victim].end(kills=True)
        self.findings.num_kills += 1
        self._start(victim)

    def __enter__(self) -> Self:
        self._launch(
            "controller", "p2p_controller", "serve", "--json", "--bind", "tcp://127.0.0.1:*"
        )
        try:
            self._controller = self._processes["controller"].hear()["address"]
            for name in SEEDS:
                self._start(name)
        except NoAnswerError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.end(kills=True)
        self._log.close()


def main() -> int:
    """Runs and prints; 1 for wrong bytes, late fetches, deaths or growth."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--transports", default="", help="of UCX, such as tcp; by default all")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    options = parser.parse_args()
    seconds = options.minutes * 60
    warm_s = min(_WARM_S, seconds / 4)
    with Soak(tuple(options.transports.split())) as soak:
        soak.run(seconds)
        log = soak.log()
    findings = soak.findings
    problems = findings.problems(warm_s)
    figures = {
        "minutes": options.minutes,
        "kills": findings.num_kills,
        **dict(sorted(findings.counts.items())),
        **{name: findings.drift(name, warm_s) for name in findings.samples},
        "survivor_counters": findings.counters,
        "problems": problems,
    }
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:28} {value}")
        print(*(log if problems else ()), sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
