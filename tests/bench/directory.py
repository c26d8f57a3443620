"""The controller's directory: lookups over ZMQ, search, ingest, snapshot, memory.

Lookups: 10,000 distinct chains of 100 keys of 32 bytes, 64 under way, next to a bare ROUTER that
echoes messages of the same size; while 8 or 512 instances send heartbeats, each with another load.
``lookups_per_s_512`` is the worse of two directories: only the last of 512 instances holds the
chains, or all of them do. ``search_to_dict_*``, ``ingest_to_dict`` and ``snapshot_to_dict`` compare
with bare passes over, or insertions into, a dict. ``--lmcache-python PATH`` names an interpreter
with LMCache; then its own controller is asked for the same chains in turn (``ratio_to_lmcache_*``).
"""

import random
import statistics
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import harness

harness.import_paths()

from p2p.keys import split_keys
from p2p.wire.codec import encode, split
from p2p.wire.decoders import CONTROLLER_REPLIES
from p2p.wire.messages import FeedStatus, Located, Want
from tests.bench import directory_fleet as fleet
from tests.bench import directory_lmcache
from tests.bench.directory_search import search_figures
from tests.bench.mirror import mirror_to_dict

_WINDOW = 64
_NUM_KEYS = 1_000_000
_SETTINGS = {"8": (8, "last"), "512_last": (512, "last"), "512_all": (512, "all")}


def lookup_figures(rounds: int, round_s: float, lmcache: str) -> dict[str, object]:
    """Measures lookups with 8 and with 512 instances, in turn with the echo."""
    chains = fleet.chain_blobs()
    random.Random(1).shuffle(chains)  # noqa: S311
    frames = fleet.questions(chains)
    rates: dict[str, list[float]] = {name: [] for name in ("echo", *_SETTINGS)}
    medians: dict[str, list[float]] = {"echo": [], "8": []}
    with ExitStack() as stack:
        lines: dict[str, fleet.Line] = {}
        for name in list(rates):
            address = f"tcp://127.0.0.1:{harness.free_port()}"
            if name == "echo":
                stack.enter_context(fleet.running("echo", address))
            else:
                stack.enter_context(fleet.running("serve", address, *_SETTINGS[name]))
                stack.enter_context(fleet.running("beat", address, _SETTINGS[name][0]))
            lines[name] = fleet.Line(address)
            stack.callback(lines[name].close)
        theirs = directory_lmcache.questions(chains) if lmcache else []
        for name in ("8", "512") if lmcache else ():
            lines[f"lmcache_{name}"] = stack.enter_context(
                directory_lmcache.running(lmcache, int(name))
            )
            rates[f"lmcache_{name}"] = []
        for name in _SETTINGS:
            _check_answer(lines[name], frames[0], 512 if name == "512_all" else 1)
        for _ in range(rounds):
            for name, line in lines.items():
                asked = theirs if name.startswith("lmcache") else frames
                rates[name].append(_rate(line, asked, round_s))
            for name, times_us in medians.items():
                times_us.append(_median_us(lines[name], frames, round_s / 2))
    by_name = {name: harness.spread(values) for name, values in rates.items()}
    ratios = {n: harness.spread(harness.paired(rates[n], rates["echo"])) for n in _SETTINGS}
    worse = min("512_last", "512_all", key=lambda name: by_name[name]["median"])
    figures = _lmcache_figures(rates, worse) if lmcache else {}
    slower = harness.paired(medians["8"], medians["echo"])
    return figures | {
        "lookups_per_s_8": by_name["8"]["median"],
        "lookups_per_s_512": by_name[worse]["median"],
        "lookups_per_s_512_last": by_name["512_last"]["median"],
        "lookups_per_s_512_all": by_name["512_all"]["median"],
        "echoes_per_s": by_name["echo"]["median"],
        "lookup_to_echo_8": ratios["8"]["median"],
        "lookup_to_echo_8_spread": ratios["8"],
        "lookup_512_to_8": statistics.median(harness.paired(rates[worse], rates["8"])),
        "lookup_median_to_echo": statistics.median(slower),
        "lookup_median_us": statistics.median(medians["8"]),
    }


def _lmcache_figures(rates: dict[str, list[float]], worse: str) -> dict[str, object]:
    return {
        "lmcache_lookups_per_s_8": statistics.median(rates["lmcache_8"]),
        "lmcache_lookups_per_s_512": statistics.median(rates["lmcache_512"]),
        "ratio_to_lmcache_8": statistics.median(harness.paired(rates["8"], rates["lmcache_8"])),
        "ratio_to_lmcache_512": statistics.median(
            harness.paired(rates[worse], rates["lmcache_512"])
        ),
    }


def _check_answer(line: fleet.Line, frame: bytes, num_holders: int) -> None:
    line.socket.send(frame)
    located = CONTROLLER_REPLIES.decode(split(line.socket.recv())[1])
    assert isinstance(located, Located), located
    (run,) = located.runs
    assert (run.count, len(run.holders) + run.more) == (fleet.CHAIN_KEYS, num_holders), run


def _rate(line: fleet.Line, frames: list[bytes], seconds: float) -> float:
    """Returns answers per second with 64 requests under way."""
    start_s, num_done = time.perf_counter(), 0
    while time.perf_counter() < start_s + seconds:
        first = random.randrange(len(frames) - 2000)  # noqa: S311
        line.pump(frames[first : first + 2000], _WINDOW)
        num_done += 2000
    return num_done / (time.perf_counter() - start_s)


def _median_us(line: fleet.Line, frames: list[bytes], seconds: float) -> float:
    """Returns the median time of one request at a time."""
    start_s, times_us = time.perf_counter(), list[float]()
    while time.perf_counter() < start_s + seconds:
        frame = frames[len(times_us) % len(frames)]
        times_us.append(1e6 * harness.timed(partial(line.pump, [frame], 1)))
    return statistics.median(times_us)


def ingest_figures(rounds: int) -> dict[str, object]:
    """Measures admissions of a million keys, and what they occupy."""
    blob = fleet.key_blob(_NUM_KEYS)
    ratios, rates, sizes = list[float](), list[float](), list[float]()
    for _ in range(rounds):
        with harness.controller_process() as (address, process):
            line = fleet.Line(address)
            epoch = fleet.joined(line, "p")
            frames = [encode(batch, 1) for batch in fleet.batches("p", epoch, blob)]
            before = fleet.resident_bytes(process.pid)
            seconds = harness.timed(partial(line.pump, frames, 4))
            sizes.append((fleet.resident_bytes(process.pid) - before) / _NUM_KEYS)
            status = line.ask(fleet.batches("p", epoch, blob[: fleet.KEY_BYTES])[0])
            assert isinstance(status, FeedStatus)
            assert status.acked_seq == _NUM_KEYS
            line.close()
        bare_s = _bare_insertion_s(blob)
        ratios.append(bare_s / seconds)
        rates.append(_NUM_KEYS / seconds)
    return {
        "ingest_to_dict": harness.spread(ratios)["median"],
        "ingest_to_dict_spread": harness.spread(ratios),
        "ingest_keys_per_s": statistics.median(rates),
        "bytes_per_entry": statistics.median(sizes),
    }


def snapshot_figures(rounds: int) -> dict[str, object]:
    """Measures the snapshot of a million keys, and lookups at 1,000 a second meanwhile."""
    blob = fleet.key_blob(_NUM_KEYS, seed=99)
    known = fleet.key_blob(200 * fleet.CHAIN_KEYS)  # what is asked for, of another instance
    ratios, late_ms = list[float](), list[float]()
    for _ in range(rounds):
        with harness.controller_process() as (address, _process):
            line = fleet.Line(address)
            epoch = fleet.joined(line, "other")
            line.pump([encode(batch, 1) for batch in fleet.batches("other", epoch, known)], 4)
            fleet.joined(line, "p")
            frames = [encode(page, 1) for page in fleet.pages("p", epoch, blob)]
            with fleet.running("ask", address, 1000) as asker:
                seconds = harness.timed(partial(line.pump, frames, 4))
                assert asker.stdin is not None
                assert asker.stdout is not None
                asker.stdin.write(b"enough\n")
                asker.stdin.flush()
                latencies = sorted(map(float, asker.stdout.readline().split()))
            last = line.ask(fleet.pages("p", epoch, blob[: fleet.KEY_BYTES])[0])
            assert isinstance(last, FeedStatus)
            assert (last.synced_page, last.want) == (len(frames) - 1, Want.NOTHING)
            line.close()
        late_ms.append(latencies[int(len(latencies) * 0.99)])
        ratios.append(seconds / _bare_insertion_s(blob))
    return {
        "snapshot_to_dict": harness.spread(ratios)["median"],
        "snapshot_to_dict_spread": harness.spread(ratios),
        "lookup_p99_ms_in_snapshot": statistics.median(late_ms),
        "lookup_p99_ms_in_snapshot_spread": harness.spread(late_ms),
    }


def _bare_insertion_s(blob: bytes) -> float:
    """Returns how long it takes to insert the keys into a dict one by one; they exist already."""
    keys = split_keys(blob, fleet.KEY_BYTES)
    mask_by_key: dict[bytes, int] = {}

    def insert() -> None:
        for key in keys:
            mask_by_key[key] = 1

    return harness.timed(insert)


def main() -> None:
    """Measures and prints."""
    options = harness.arguments(__doc__ or "", ["--lmcache-python"])
    rounds = 9 if options.full else 5
    figures = lookup_figures(rounds, 1.0, options.lmcache_python)
    figures |= search_figures(rounds)
    figures |= ingest_figures(rounds)
    figures |= snapshot_figures(rounds)
    figures["mirror_to_dict"] = mirror_to_dict()["median"]
    harness.report(figures, options)


if __name__ == "__main__":
    main()
