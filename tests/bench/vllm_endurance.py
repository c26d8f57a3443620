"""Mixed load on two vLLM servers that share, for as long as is asked (``--minutes``, 30).

Six clients ask for new prompts, for common documents with new endings, and for prompts asked
before; they hang up on some. The engines' caches and the pools are too small for all documents, so
blocks are evicted and requests preempted. After a third of the time the controller is killed; a new
one comes half a minute later. Each answer is compared with that of a third server without a
connector, and so is its time. Ends with 1 if anything promised was broken.
"""

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import harness

harness.import_paths()

from tests.bench import vllm_environment as bench

bench.ensure_vllm()

from examples.p2p_sharing.vllm.servers import Server, Servers, await_ready
from tests.bench.vllm_mix import VOCABULARY, Mix, Tally
from tests.bench.vllm_watch import Holding, holding_of
from tests.e2e.vllm.model_folder import make_model

NUM_CLIENTS = 6
NUM_DOCUMENTS = 24
BUDGET_S = 2.0
SLACK_S = 1.0  # at least; more where two answers of the plain server differ by more
WARM_UP_SHARE = 0.25
NO_CONTROLLER_S = 30.0
MAX_GROWTH = Holding(anonymous_bytes=48 << 20, descriptors=8, threads=4)
OPTIONS = (
    *("--skip-tokenizer-init", "--max-model-len", "3072"),
    *("--kv-cache-memory-bytes", str(10 << 20)),
)


class Watch:
    """Looks at the servers now and then.

    Args:
        servers: to look at.
    """

    def __init__(self, servers: list[Server]) -> None:
        self._servers = servers
        self.samples: list[dict[str, Holding]] = []

    def look(self) -> None:
        """Takes a sample."""
        self.samples.append({each.name: holding_of(each.pid) for each in self._servers})

    def anonymous_mib(self) -> dict[str, list[int]]:
        """Returns the memory in all samples, by server."""
        return {
            server.name: [each[server.name].anonymous_bytes >> 20 for each in self.samples]
            for server in self._servers
        }

    def growth(self) -> dict[str, dict[str, int]]:
        """Returns what each server holds more in the last sample than in the first one."""
        first, last = self.samples[0], self.samples[-1]
        return {
            name: {
                "anonymous_bytes": last[name].anonymous_bytes - first[name].anonymous_bytes,
                "descriptors": last[name].descriptors - first[name].descriptors,
                "threads": last[name].threads - first[name].threads,
            }
            for name in first
        }


class Run:
    """The load, and what happens meanwhile.

    Args:
        servers: with the controller.
        sharing: the two.
        plain: the third.
        seconds: of load.
    """

    def __init__(
        self, servers: Servers, sharing: list[Server], plain: Server, seconds: float
    ) -> None:
        self._servers = servers
        self._sharing = sharing
        self._plain = plain
        self._seconds = seconds
        self.tally = Tally()
        self.watch = Watch([*sharing, plain])
        self.num_fetched = dict.fromkeys(("before", "without_controller", "after"), 0)

    def go(self) -> None:
        """Returns when the time is up and every request has ended."""
        documents = [_document(number) for number in range(NUM_DOCUMENTS)]
        mixes = [
            Mix(self._sharing, self._plain, documents, seed, self.tally)
            for seed in range(NUM_CLIENTS)
        ]
        ends_s = time.monotonic() + self._seconds
        over = threading.Event()
        with ThreadPoolExecutor(NUM_CLIENTS) as clients:
            asking = [
                clients.submit(mix.run, lambda: time.monotonic() < ends_s and not over.is_set())
                for mix in mixes
            ]
            try:
                self._disturb(ends_s)
            finally:
                over.set()
        for each in asking:
            each.result()
        self._until(time.monotonic() + 5)
        self.watch.look()

    def _disturb(self, ends_s: float) -> None:
        began_s = ends_s - self._seconds
        self._until(began_s + WARM_UP_SHARE * self._seconds)
        self.watch.look()
        self._until(began_s + self._seconds / 3)
        self._count("before")
        self._servers.controller_process.kill()
        self._until(time.monotonic() + min(NO_CONTROLLER_S, self._seconds / 6))
        self._count("without_controller")
        self._servers.start_controller(self._servers.controller)
        while time.monotonic() < ends_s:
            self._until(min(ends_s, time.monotonic() + 60))
            self.watch.look()
        self._count("after")

    def _until(self, moment_s: float) -> None:
        threading.Event().wait(max(0.0, moment_s - time.monotonic()))

    def _count(self, name: str) -> None:
        """Notes how many chunks were fetched since the last time."""
        fetched = sum(each.client.metrics().get("fetched_chunks", 0.0) for each in self._sharing)
        self.num_fetched[name] = int(fetched) - sum(self.num_fetched.values())


def _document(number: int) -> list[int]:
    length = 300 + 100 * number
    return [(number * 7919 + at * at * 31 + at) % VOCABULARY for at in range(length)]


def _lookups_over_budget(server: Server) -> int:
    """Returns how many lookups took longer than the budget: as the histogram has it, 5 s."""
    bucket = 'vllm:p2p_fetch_seconds_bucket{le="%s"'
    return int(server.client.read(bucket % "+Inf") - server.client.read(bucket % "5.0"))


def problems(run: Run, sharing: list[Server]) -> list[str]:
    """Returns one sentence for each promise that was broken."""
    found = list(run.tally.failures)
    slack_s = max([SLACK_S, *run.tally.noise_s])
    late = [each for each in run.tally.late_s if each > BUDGET_S + slack_s]
    if late:
        found.append(f"{len(late)} answers later than the budget explains, by {max(late):.1f} s")
    found += [
        f"{server.name}: lookups over their budget: {_lookups_over_budget(server)}"
        for server in sharing
        if _lookups_over_budget(server)
    ]
    found += [f"no chunk was fetched {when}" for when, n in run.num_fetched.items() if n == 0]
    return found + _growth_beyond(run.watch.growth(), sharing)


def _growth_beyond(growth: dict[str, dict[str, int]], sharing: list[Server]) -> list[str]:
    """Returns what grew more than allowed, beyond what the server without a connector grew."""
    return [
        f"{server.name}: {number} more {name}, the plain server {growth['plain'][name]}"
        for server in sharing
        for name, number in growth[server.name].items()
        if number > max(0, growth["plain"][name]) + getattr(MAX_GROWTH, name)
    ]


def main() -> int:
    """Runs and prints; returns the exit status."""
    options = harness.arguments(__doc__ or "", ["--minutes"])
    minutes = float(options.minutes or 30)
    extra = {"pool_bytes": "48MiB", "pull": "always", "budget_s": BUDGET_S}
    with TemporaryDirectory(prefix="p2p-bench-") as folder:
        model = make_model(Path(folder))
        with Servers(model, *OPTIONS) as servers:
            plain = servers.start_plain("plain", "nobind", variables={"OMP_NUM_THREADS": "1"})
            sharing = [servers.start(name, core, extra) for name, core in (("a", "0"), ("b", "1"))]
            await_ready(*sharing, plain)
            run = Run(servers, sharing, plain, 60 * minutes)
            run.go()
            failures = problems(run, sharing)
            counters = {each.name: each.client.metrics() for each in sharing}
    late = sorted(run.tally.late_s)
    figures = {
        "failures": failures,
        "minutes": minutes,
        "requests": dict(run.tally.num_by_kind),
        "reused_share_of_prompts": round(run.tally.num_cached / max(1, run.tally.num_prompt), 3),
        "chunks_fetched": run.num_fetched,
        "later_than_plain_s": harness.spread(late),
        "later_than_plain_s_99": round(late[int(0.99 * len(late))], 3),
        "plain_differs_by_s": harness.spread(run.tally.noise_s),
        "growth": run.watch.growth(),
        "anonymous_mib": run.watch.anonymous_mib(),
        "counters": counters,
        "load": os.getloadavg(),
    }
    harness.report(figures, options)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
