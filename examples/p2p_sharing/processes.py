"""Starts the demo's processes, talks to them, and makes sure that none outlives the demo.

Every process leads its own group: Ctrl-C reaches the driver alone, which then ends the others. An
instance also ends when its standard input does. Logs go to files; a failure shows the last lines.
"""

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import IO, ClassVar, TypeVar

import msgspec

from examples.p2p_sharing.messages import AnyCommand, AnyEvent

_Event = TypeVar("_Event", bound=AnyEvent)
_ROOT = Path(__file__).resolve().parents[2]
_SOURCE_ROOTS = (_ROOT, _ROOT / "kernels", _ROOT / "controller")
_LOG_TAIL_LINES = 15
_STOP_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 180.0


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


class Process:
    """One process with a log file of its own.

    Args:
        name: for people, and of the log.
        command: module and arguments, as after ``python -m``.
        log_folder: where the log goes.
        variables: of its environment, beside ours.
        python: the interpreter; by default ours.
    """

    is_talking: ClassVar[bool] = False  # its standard output is read, not logged

    def __init__(
        self,
        name: str,
        command: list[str],
        log_folder: Path,
        variables: Mapping[str, str] = MappingProxyType({}),
        python: str = sys.executable,
    ) -> None:
        self.name = name
        self._log = log_folder / f"{name}.log"
        with self._log.open("wb") as log:
            self._popen = subprocess.Popen(
                [python, "-m", *command],
                cwd=_ROOT,
                env={**_environment(), **variables},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if self.is_talking else log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the process; its group and session have the same number."""
        return self._popen.pid

    def has_ended(self) -> bool:
        """Returns whether it is dead, for whatever reason."""
        return self._popen.poll() is not None

    def wait(self) -> None:
        """Waits for its end.

        Raises:
            DemoError: it did not end with 0.
        """
        if self._popen.wait() != 0:
            raise self.failure("it was expected to succeed")

    def kill(self) -> None:
        """Sends SIGKILL to it and to all that it started; returns once it is dead."""
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()

    def send_signal(self, number: int) -> None:
        """Sends it a signal."""
        self._popen.send_signal(number)

    def stop(self) -> None:
        """Asks it to end (SIGTERM), waits a while, and kills what is left."""
        if not self.has_ended():
            self._popen.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(_STOP_TIMEOUT_S)
        self.kill()

    def failure(self, what: str) -> DemoError:
        """Returns an error that names the process and shows the end of its log."""
        code = self._popen.poll()
        state = "is running" if code is None else f"ended with {code}"
        lines = self._log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        tail = "\n    ".join(lines) or "(empty)"
        return DemoError(f"{self.name} {state}: {what}. The end of its log:\n    {tail}")


class InstanceProcess(Process):
    """A serving instance: takes commands and gives events (see `messages`)."""

    is_talking = True

    def __init__(self, name: str, controller: str, log_folder: Path) -> None:
        module = "examples.p2p_sharing.instance"
        command = [module, "--name", name, "--controller", controller]
        super().__init__(name, command, log_folder)
        self._events: queue.SimpleQueue[AnyEvent | None] = queue.SimpleQueue()
        commands, output = self._popen.stdin, self._popen.stdout
        if commands is None or output is None:
            raise AssertionError("both are pipes: the class talks")
        self._input = commands
        reader = threading.Thread(target=self._read, args=(output,), name=f"events-{name}")
        reader.daemon = True
        reader.start()

    def ask(self, command: AnyCommand, kind: type[_Event]) -> _Event:
        """Sends a command and waits for its answer.

        Raises: as `expect`.
        """
        self.send(command)
        return self.expect(kind)

    def send(self, command: AnyCommand) -> None:
        """Sends a command without waiting."""
        with suppress(BrokenPipeError):  # it is dead: `expect` will say so
            self._input.write(msgspec.json.encode(command) + b"\n")
            self._input.flush()

    def expect(self, kind: type[_Event], timeout_s: float = ANSWER_TIMEOUT_S) -> _Event:
        """Waits for the next event, which must be of one kind.

        Raises:
            DemoError: none came in time, the process is dead, or the event is another one.
        """
        event = self.next_event(timeout_s)
        if not isinstance(event, kind):
            raise self.failure(f"{kind.__name__} was expected, it sent {event!r}")
        return event

    def next_event(self, timeout_s: float = ANSWER_TIMEOUT_S) -> AnyEvent:
        """Waits for the next event.

        Raises:
            DemoError: none came in time, or the process is dead.
        """
        try:
            event = self._events.get(timeout=timeout_s)
        except queue.Empty:
            raise self.failure(f"no event within {timeout_s:.0f} s") from None
        if event is None:
            self._popen.wait()
            raise self.failure("it was expected to answer")
        return event

    def _read(self, output: IO[bytes]) -> None:
        decoder = msgspec.json.Decoder(AnyEvent)
        try:
            for line in output:
                self._events.put(decoder.decode(line))
        finally:
            self._events.put(None)


def _environment() -> dict[str, str]:
    """Returns ours, in which a clone that is not installed finds its packages too."""
    path = [*map(str, _SOURCE_ROOTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
