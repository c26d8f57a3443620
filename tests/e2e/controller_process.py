"""A controller in a process of its own, and its command line, as a user would run them."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]
_START_S = 20.0


def environment(**variables: str) -> dict[str, str]:
    """Returns the environment of a child: ours without its settings, with the source roots."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("P2P_")}
    roots = os.pathsep.join(str(ROOT / root) for root in (".", "kernels", "controller"))
    return {**kept, "PYTHONPATH": roots, **variables}


def until(condition: Callable[[], bool], timeout_s: float = 15.0) -> bool:
    """Asks again until a condition holds, or the time is up."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.02)
    return True


def run_cli(*words: str, stdin: str = "", **variables: str) -> "subprocess.CompletedProcess[str]":
    """Runs one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "p2p_controller", *words],
        env=environment(**variables),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=_START_S,
        check=False,
    )


class ControllerProcess:
    """A running ``p2p-controller serve``.

    Args:
        words: further options of ``serve``.
        bind: where; by default a free port.
    """

    def __init__(self, *words: str, bind: str = "tcp://127.0.0.1:*") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "p2p_controller", "serve", "--bind", bind, "--json", *words],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        ready = self._ready()
        self.address = str(ready["address"])
        self.http = str(ready["http"])

    def cli(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Runs a command against this controller."""
        return run_cli(*words, P2P_CONTROLLER=self.address)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Sends a signal and returns the exit status and the log."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        """Waits for the end; returns the exit status and the log."""
        _, log = self.process.communicate(timeout=_START_S)
        return self.process.returncode, log

    def _ready(self) -> dict[str, object]:
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], _START_S)
        line = self.process.stdout.readline() if readable else ""
        if not line:
            self.process.kill()
            raise AssertionError(f"no controller: {self.wait()[1]}")
        ready: dict[str, object] = json.loads(line)
        return ready

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.wait()
