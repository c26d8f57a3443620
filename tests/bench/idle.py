"""What a controller and an instance use while nothing happens: ``idle_cpu_percent`` of one core.

Processor time of both processes, all threads, user and system, over the time between two readings.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import harness

INSTANCE = """
import sys
from tests.bench.fetch import LARGE, make_backend
with make_backend("idle", sys.argv[1], LARGE, 16) as backend:
    assert backend.wait_advertised(10)
    print("ready", flush=True)
    sys.stdin.read()
"""


def cpu_s(pid: int) -> float:
    """Returns the processor time of a process and its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measures and prints."""
    options = harness.arguments(__doc__ or "")
    round_s, rounds = 5.0, 20 if options.full else 5
    with harness.controller_process() as (address, controller):
        instance = subprocess.Popen(
            [sys.executable, "-c", INSTANCE, address],
            env=harness.child_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert instance.stdout is not None
        assert instance.stdin is not None
        assert instance.stdout.readline().strip() == b"ready"
        time.sleep(2.0)
        percents: dict[str, list[float]] = {"both": [], "controller": [], "instance": []}
        for _ in range(rounds):
            before = cpu_s(controller.pid), cpu_s(instance.pid)
            start = time.perf_counter()
            time.sleep(round_s)
            passed = time.perf_counter() - start
            used = [
                cpu_s(p) - b for p, b in zip((controller.pid, instance.pid), before, strict=True)
            ]
            percents["controller"].append(100 * used[0] / passed)
            percents["instance"].append(100 * used[1] / passed)
            percents["both"].append(100 * sum(used) / passed)
        instance.stdin.close()
        instance.wait(10)
        instance.stdout.close()
    harness.report(
        {
            "idle_cpu_percent": harness.spread(percents["both"])["median"],
            "idle_cpu_percent_spread": harness.spread(percents["both"]),
            "controller_cpu_percent": harness.spread(percents["controller"])["median"],
            "instance_cpu_percent": harness.spread(percents["instance"])["median"],
        },
        options,
    )


if __name__ == "__main__":
    main()
