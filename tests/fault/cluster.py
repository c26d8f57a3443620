"""A controller, two holders and a reader, each a process, on this host or on hosts of their own."""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import IO, Any, Self

import msgspec

from tests.e2e.controller_process import environment, until
from tests.fault.figures import is_stopped, num_fds, num_threads
from tests.fault.peer_process import NUM_CHUNKS, PeerSettings
from tests.net.namespaces import Host, Network

Answer = dict[str, Any]  # type: ignore[explicit-any]  # JSON of our own processes
ANSWER_S = 30.0
SEEDS = {"a": 1, "b": 2}
LATER = 100  # added to a seed: what a holder stores after its leases have ended
_READY_S = 40.0


class NoAnswerError(AssertionError):
    """A process said nothing in time, or has ended."""


class Process:
    """A child that answers in lines of JSON.

    Args:
        argv: its command.
        name: for messages.
        host: where it runs; None for this host.
        log: takes its log.
    """

    def __init__(self, argv: Sequence[str], name: str, host: Host | None, log: IO[bytes]) -> None:
        self._name = name
        popen = subprocess.Popen if host is None else host.popen
        self.process = popen(
            argv,
            env=environment(PYTHONFAULTHANDLER="1"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.fileno(),
        )
        assert self.process.stdout is not None
        self._output = self.process.stdout.fileno()
        self._rest = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)

    @property
    def figures(self) -> tuple[int, int]:
        """How many files and threads it has."""
        return num_fds(self.process.pid), num_threads(self.process.pid)

    def say(self, **order: object) -> None:
        """Sends a line.

        Raises:
            NoAnswerError: the process has ended.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._dead() from None

    def hear(self, timeout_s: float = ANSWER_S) -> Answer:
        """Returns the next line.

        Raises:
            NoAnswerError: none came.
        """
        deadline_s = time.monotonic() + timeout_s
        while b"\n" not in self._rest:
            if not self._selector.select(max(0.0, deadline_s - time.monotonic())):
                raise NoAnswerError(f"{self._name} says nothing for {timeout_s} s")
            data = os.read(self._output, 1 << 16)
            if not data:
                raise self._dead()
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        answer: Answer = json.loads(line)
        return answer

    def heard(self) -> list[Answer]:
        """Returns the lines that are there; never waits. Empty too if the process has ended."""
        while self._selector.select(0):
            data = os.read(self._output, 1 << 16)
            if not data:
                break
            self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        return [json.loads(line) for line in lines]

    def expect_alive(self) -> None:
        """Raises `NoAnswerError` if the process has ended."""
        if self.process.poll() is not None:
            raise self._dead()

    def _dead(self) -> NoAnswerError:
        return NoAnswerError(f"{self._name} has died with status {self.process.wait(10)}")

    def ask(self, do: str, **words: object) -> Answer:
        """Sends an order and returns its answer."""
        self.say(do=do, **words)
        return self.hear()

    def hear_phase(self) -> int:
        """Waits until a fetch has stopped its process at a phase; returns how much has arrived.

        Raises:
            NoAnswerError: the fetch has ended without having been there.
        """
        answer = self.hear()
        if "at" not in answer:
            raise NoAnswerError(f"the phase was not reached: {answer}")
        self._expect_stopped()
        num_arrived: int = answer["num_arrived"]
        return num_arrived

    def go_on(self) -> Answer:
        """Lets a fetch that stopped at a phase go on; returns how it ended."""
        self.signal(signal.SIGCONT)
        self.say()
        return self.hear()

    def count(self, counter: str) -> int:
        """Returns one of an instance's counters."""
        number: int = self.ask("counters").get(counter, 0)
        return number

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal; SIGKILL and SIGSTOP have come true when this returns."""
        self.process.send_signal(number)
        if number is signal.SIGSTOP:
            self._expect_stopped()
        if number is signal.SIGKILL:
            self.end(kills=True)

    def _expect_stopped(self) -> None:
        if not until(lambda: is_stopped(self.process.pid), ANSWER_S):
            raise NoAnswerError(f"{self._name} does not stop")

    def end(self, kills: bool = False) -> None:
        """Ends the process and closes its pipes."""
        if kills and self.process.poll() is None:
            self.process.kill()
        self._selector.close()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)


class Cluster:
    """All processes of a cell; a context manager.

    Args:
        transports: of UCX; empty for all.
        has_network: every process is on a host of its own.
        holders: their names.
        quarantine_s: as in `BackendConfig`.
        channel: as in `BackendConfig`.
    """

    def __init__(
        self,
        transports: tuple[str, ...] = (),
        has_network: bool = False,
        holders: Sequence[str] = ("a", "b"),
        quarantine_s: float = 1.0,
        channel: str = "nixl",
    ) -> None:
        self._channel = channel
        self.hosts: dict[str, Host] = {}
        self.processes: dict[str, Process] = {}
        self.holders = tuple(holders)
        self._transports = transports
        self._quarantine_s = quarantine_s
        self._has_network = has_network
        self._controller = ""
        self._stack = ExitStack()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the cluster)

    def log(self, num_lines: int) -> list[str]:
        """Returns the last lines that the processes have logged."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace").splitlines()[-num_lines:]

    def start(self, name: str) -> None:
        """Starts a process, again after it was killed; `ready` must follow."""
        host = self.hosts.get(name)
        if name == "controller":
            bind = f"tcp://{host.address if host else '127.0.0.1'}:*"
            argv = ["p2p_controller", "serve", "--json", "--bind", self._controller or bind]
        else:
            argv = ["tests.fault.peer_process", msgspec.json.encode(self._settings(name)).decode()]
        self.processes[name] = Process([sys.executable, "-m", *argv], name, host, self._log)

    def ready(self, name: str) -> None:
        """Waits until a process serves; a holder then has its chunks."""
        process = self.processes[name]
        answer = process.hear(_READY_S)
        if name == "controller":
            self._controller = answer["address"]
        else:
            assert answer == {"ready": True}, answer
        if name in self.holders:
            stored = process.ask("put", num=NUM_CHUNKS, seed=SEEDS[name])
            assert stored == {"num": NUM_CHUNKS, "is_advertised": True}, stored

    def expect_alive(self) -> None:
        """Looks whether every process runs.

        Raises:
            NoAnswerError: one has ended.
        """
        for process in self.processes.values():
            process.expect_alive()

    @property
    def reader(self) -> Process:
        """The reader's process."""
        return self.processes["reader"]

    def _settings(self, name: str) -> PeerSettings:
        host = self.hosts.get(name)
        seeds = tuple(SEEDS.values())
        return PeerSettings(
            controller=self._controller,
            instance=name,
            host="far" if name == "b" else "near",
            seeds=(*seeds, *(seed + LATER for seed in seeds)),
            bind=f"tcp://{host.address if host else '127.0.0.1'}:*",
            transports=self._transports,
            devices=(host.device,) if host else (),
            num_slots=(2 if name == "reader" else 1) * NUM_CHUNKS,  # a quarantine takes some
            quarantine_s=self._quarantine_s,
            channel=self._channel,
        )

    def __enter__(self) -> Self:
        names = (*self.holders, "reader")
        with ExitStack() as stack:
            stack.callback(self._log.close)
            if self._has_network:
                network = stack.enter_context(Network())
                self.hosts = {name: network.add(name) for name in ("controller", *names)}
            stack.callback(self._end)
            self.start("controller")
            self.ready("controller")
            for name in names:
                self.start(name)
            for name in names:
                self.ready(name)
            self._stack = stack.pop_all()
        return self

    def _end(self) -> None:
        for process in self.processes.values():
            process.end(kills=True)
        self.processes.clear()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
