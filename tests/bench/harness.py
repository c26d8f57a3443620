"""What all benchmarks share: paired rounds, their spread, and the last line of JSON.

Every comparison is interleaved: round i of one side stands next to round i of the other, the ratio
is taken pair by pair, and the median of the ratios is the figure.
"""

import argparse
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def arguments(description: str, words: Sequence[str] = ()) -> argparse.Namespace:
    """Returns ``json`` and ``full``, and further options that each take a word."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print the JSON line only")
    parser.add_argument("--full", action="store_true", help="the long run")
    for name in words:
        parser.add_argument(name, default="")
    return parser.parse_args()


def import_paths() -> None:
    """Makes the checkout importable when a benchmark is run as a file."""
    for folder in (ROOT, ROOT / "kernels", ROOT / "controller"):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


def child_environment() -> dict[str, str]:
    """Returns an environment in which a child imports the checkout."""
    paths = [str(ROOT), str(ROOT / "kernels"), str(ROOT / "controller")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "NIXL_LOG_LEVEL": "ERROR"}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Returns median, quartiles, extremes and count of some rounds."""
    ordered = sorted(values)
    quarter = len(ordered) // 4
    return {
        "median": round(statistics.median(ordered), 6),
        "q1": round(ordered[quarter], 6),
        "q3": round(ordered[-1 - quarter], 6),
        "min": round(ordered[0], 6),
        "max": round(ordered[-1], 6),
        "rounds": len(ordered),
    }


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Returns the interval that holds the median with 95 %, by order statistics (sign test)."""
    ordered, count = sorted(values), len(values)
    tail, rank = 0.5**count, 0
    while tail <= 0.025 and rank < count // 2:
        rank += 1
        tail += math.comb(count, rank) * 0.5**count
    low = max(0, rank - 1)
    return round(ordered[low], 6), round(ordered[count - 1 - low], 6)


def paired(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Returns the ratio of each pair of rounds."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]


def timed(call: Callable[[], object]) -> float:
    """Returns the seconds that a call took."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def report(figures: dict[str, object], options: argparse.Namespace) -> None:
    """Prints the figures for people, unless only JSON is wanted, and the JSON line."""
    if not options.json:
        for name, value in figures.items():
            print(f"{name:32} {value}")
    print(json.dumps(figures))


def free_port() -> int:
    """Returns a TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def controller() -> Iterator[str]:
    """Runs a controller process and yields its address."""
    with controller_process() as (address, _):
        yield address


@contextmanager
def controller_process() -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Runs a controller process and yields its address and the process."""
    address = f"tcp://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "p2p_controller", "serve", "--bind", address]
    process = subprocess.Popen(
        command, env=child_environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        process.stdout.readline()  # it says so when it is ready
        yield address, process
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()
