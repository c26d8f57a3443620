"""A trace of requests on eight instances: what they find together, in pools of two sizes.

Requests are dealt round robin, four are in flight. A block is found if it was local or fetched, and
is byte by byte what its key must contain; blocks that were not found are put. ``prefix_share_*``
are the found blocks of all: by ``fabric`` with pools that never evict, by one cache without limit
(``ideal``), by the same instances without a network (``alone``). ``finite_to_single_lru``: pools
with room for a tenth of the different blocks in total, to one LRU cache of that size;
``finite_to_leaf_lru`` the same to one that drops a request's last block first.
"""

import argparse
import queue
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import harness
from tests.bench.replay_process import Answers, ReplayProcess, Served, Share
from tests.bench.trace import (
    Request,
    TraceError,
    dealt,
    found_alone,
    found_by_leaf_lru,
    found_by_lru,
    found_by_one,
    num_blocks,
    num_distinct,
    read_trace,
)

TRACE = harness.ROOT.parent / "shared" / "data" / "mooncake_conversation_trace.jsonl"
NUM_INSTANCES = 8
NUM_REQUESTS = 2000
IN_FLIGHT = 4
_ROOM = 10  # of so many different blocks, finite pools hold one
_ANSWER_S = 120.0


@dataclass(frozen=True)
class Replay:
    """How a trace is replayed.

    Attributes:
        trace: its file.
        requests: those of its requests that count.
        keep: see `BackendConfig.keep`.
        num_instances: that requests are dealt to.
        in_flight: requests that are served at a time.
        is_patient: a request is over when the directory knows what it has put.
    """

    trace: Path
    requests: Sequence[Request]
    keep: str = "hot"
    num_instances: int = NUM_INSTANCES
    in_flight: int = IN_FLIGHT
    is_patient: bool = False


@dataclass
class Outcome:
    """What became of all requests.

    Attributes:
        num_found: blocks.
        num_local: of these, blocks that were here already.
        num_refused: blocks for which there was no room.
        wrong_bytes: delivered bytes that are not what they must be.
        seconds: of the replay.
        fetch_s: of each fetch.
        reasons: why not more was found, by requests.
        counters: of all backends.
    """

    num_found: int = 0
    num_local: int = 0
    num_refused: int = 0
    wrong_bytes: int = 0
    seconds: float = 0.0
    fetch_s: list[float] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    counters: Counter[str] = field(default_factory=Counter)

    def add(self, served: Served) -> None:
        """Takes an instance's answer."""
        self.num_found += served.num_found
        self.num_local += served.num_local
        self.num_refused += served.num_refused
        self.wrong_bytes += served.wrong_bytes
        self.fetch_s.append(served.seconds)
        self.reasons[served.reason or "complete"] += 1


def replayed(replay: Replay, num_slots: int | None) -> Outcome:
    """Serves the requests with a new controller and new instances.

    Args:
        replay: what, and how.
        num_slots: room of each pool; None for pools that never evict.
    """
    answers: Answers = queue.Queue()
    with harness.controller() as address:
        processes = [
            ReplayProcess(_share(replay, number, address, num_slots), answers)
            for number in range(replay.num_instances)
        ]
        try:
            for _ in processes:
                _next(answers)
            outcome = _served(replay, processes, answers)
            for process in processes:
                process.finish()
            for _ in processes:
                outcome.counters.update(_next(answers).counters)
        finally:
            for process in processes:
                process.end()
    return outcome


def _share(replay: Replay, number: int, controller: str, num_slots: int | None) -> Share:
    if num_slots is None:
        num_slots = num_blocks(list(dealt(replay.requests, number, replay.num_instances)))
    return Share(
        instance=f"i{number}",
        controller=controller,
        trace=str(replay.trace),
        limit=len(replay.requests),
        num_slots=max(num_slots, 1),
        keep=replay.keep,
        is_patient=replay.is_patient,
    )


def _served(replay: Replay, processes: Sequence[ReplayProcess], answers: Answers) -> Outcome:
    outcome, num_open, start_s = Outcome(), 0, time.perf_counter()
    for number in range(len(replay.requests)):
        if num_open == replay.in_flight:
            outcome.add(_next(answers))
            num_open -= 1
        processes[number % len(processes)].serve(number)
        num_open += 1
    for _ in range(num_open):
        outcome.add(_next(answers))
    outcome.seconds = time.perf_counter() - start_s
    return outcome


def _next(answers: Answers) -> Served:
    while True:
        name, served = answers.get(timeout=_ANSWER_S)
        if served is not None:
            return served
        raise AssertionError(f"instance {name} has ended too early")


def _infinite(replay: Replay, outcome: Outcome) -> dict[str, object]:
    """Returns the figures of pools that never evict."""
    total = max(num_blocks(replay.requests), 1)
    ideal = found_by_one(replay.requests)
    return {
        "prefix_share_ideal": round(ideal / total, 4),
        "prefix_share_fabric": round(outcome.num_found / total, 4),
        "prefix_share_alone": round(found_alone(replay.requests, replay.num_instances) / total, 4),
        "fabric_to_ideal": round(outcome.num_found / max(ideal, 1), 4),
        "requests_per_s": round(len(replay.requests) / outcome.seconds, 1),
        "fetch_ms": round(1e3 * harness.spread(outcome.fetch_s)["median"], 2),
        "reasons": dict(outcome.reasons),
    }


def _finite(replay: Replay, outcome: Outcome, num_slots: int) -> dict[str, object]:
    """Returns the figures of pools with room for a tenth of the different blocks."""
    room, total = num_slots * replay.num_instances, max(num_blocks(replay.requests), 1)
    single = max(found_by_lru(replay.requests, room), 1)
    leaf = max(found_by_leaf_lru(replay.requests, room), 1)
    return {
        "finite_share": round(outcome.num_found / total, 4),
        "finite_share_local": round(outcome.num_local / total, 4),
        "finite_to_single_lru": round(outcome.num_found / single, 4),
        "finite_to_leaf_lru": round(outcome.num_found / leaf, 4),
        "finite_refused": outcome.num_refused,
        "finite_fetched": outcome.counters["fetched_chunks"],
        "finite_evicted_spare": outcome.counters["evicted_spare_copies"],
        "finite_requests_per_s": round(len(replay.requests) / outcome.seconds, 1),
        "finite_reasons": dict(outcome.reasons),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the JSON line only")
    parser.add_argument("--full", action="store_true", help="all requests")
    parser.add_argument("--trace", type=Path, default=TRACE, help="a file of that form")
    parser.add_argument("--keep", nargs="+", default=["hot"], choices=["always", "hot", "never"])
    parser.add_argument("--requests", type=int, default=NUM_REQUESTS, help="the first so many")
    return parser.parse_args()


def main() -> None:
    """Replays and prints."""
    options = _options()
    if not options.trace.is_file():
        harness.report({"skipped": f"there is no file {options.trace}"}, options)
        return
    try:
        requests = read_trace(options.trace, None if options.full else options.requests)
    except TraceError as error:
        sys.exit(f"replay: {error}")
    figures: dict[str, object] = {"num_requests": len(requests), "keep": options.keep[0]}
    replay = Replay(options.trace, requests, options.keep[0])
    outcomes = [replayed(replay, None)]
    figures |= _infinite(replay, outcomes[0])
    num_slots = max(num_distinct(requests) // _ROOM // NUM_INSTANCES, 1)
    for number, keep in enumerate(options.keep):
        replay = Replay(options.trace, requests, keep)
        outcomes.append(replayed(replay, num_slots))
        ending = f"_{keep}" if number else ""
        finite = _finite(replay, outcomes[-1], num_slots)
        figures |= {f"{name}{ending}": value for name, value in finite.items()}
    figures["wrong_bytes"] = sum(outcome.wrong_bytes for outcome in outcomes)
    harness.report(figures, options)


if __name__ == "__main__":
    main()
