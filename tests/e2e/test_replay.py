"""A short trace on real instances: together they find what one cache would, byte for byte."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.bench import trace
from tests.bench.replay import Outcome, Replay, replayed
from tests.bench.trace import Request
from tests.e2e.controller_process import ROOT, environment

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NUM_REQUESTS = 60
NUM_INSTANCES = 3


def _conversations() -> list[Request]:
    """Returns turns of twelve conversations that begin with the same two blocks, in any order."""
    chance = np.random.default_rng(4)
    turns: list[Request] = [(0, 1)] * 12
    new = iter(range(2, 10_000))
    requests: list[Request] = []
    for _ in range(NUM_REQUESTS):
        number = int(chance.integers(len(turns)))
        turns[number] += tuple(next(new) for _ in range(int(chance.integers(1, 5))))
        requests.append(turns[number])
    return requests


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "conversations.jsonl"
    fields = {"timestamp": 0, "input_length": 0, "output_length": 0}
    lines = [json.dumps({**fields, "hash_ids": ids}) for ids in _conversations()]
    path.write_text("\n".join(lines) + "\n")
    return path


def _replayed(file: Path, num_slots: int | None, keep: str = "hot") -> Outcome:
    """Serves one request after the other, each once the directory knows of those before it."""
    requests = trace.read_trace(file)
    replay = Replay(file, requests, keep, num_instances=NUM_INSTANCES, in_flight=1, is_patient=True)
    return replayed(replay, num_slots)


def test_pools_that_never_evict_find_what_one_cache_finds(file):
    requests = trace.read_trace(file)
    outcome = _replayed(file, None)
    assert outcome.wrong_bytes == 0
    assert outcome.num_refused == 0
    assert outcome.num_found == trace.found_by_one(requests)
    assert outcome.num_local < outcome.num_found
    num_fetched = outcome.num_found - outcome.num_local
    num_computed = outcome.counters["chunks"] - num_fetched
    assert num_computed == trace.num_distinct(requests)  # each of them once


@pytest.mark.parametrize("keep", ["hot", "always"])
def test_small_pools_find_right_bytes_and_keep_every_slot(file, keep):
    requests = trace.read_trace(file)
    num_slots = max(map(len, requests)) + 8
    outcome = _replayed(file, num_slots, keep)
    assert outcome.wrong_bytes == 0
    assert 0 < outcome.num_found <= trace.found_by_one(requests)
    counters = outcome.counters
    assert counters["evicted_chunks"] > 0
    assert (counters["evicted_spare_copies"] > 0) is (keep == "hot")
    assert counters["chunks"] + counters["slots_free"] == num_slots * NUM_INSTANCES
    assert counters["slots_quarantined"] == 0


def test_a_malformed_trace_is_named_and_nothing_starts(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": [0, "a"]}')
    command = [sys.executable, str(ROOT / "tests" / "bench" / "replay.py"), "--trace", str(path)]
    run = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 1
    assert "bad.jsonl, line 1" in run.stderr
    assert "hash_ids[1]" in run.stderr


def test_without_the_file_the_benchmark_says_so(tmp_path):
    path = tmp_path / "absent.jsonl"
    command = [sys.executable, str(ROOT / "tests" / "bench" / "replay.py"), "--trace", str(path)]
    run = subprocess.run(
        [*command, "--json"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "absent.jsonl" in json.loads(run.stdout)["skipped"]
