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

from tests.e2e.controller_process import environment
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
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.fileno(),
        )
        assert self.process.stdout is not None
        self._output = self.process.stdout.fileno()
        self._rest = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)

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

    def _dead(self) -> NoAnswerError:
        return NoAnswerError(f"{self._name} has died with status {self.process.wait(10)}")

    def ask(self, do: str, **words: object) -> Answer:
        """Sends an order and returns its answer."""
        self.say(do=do, **words)
        return self.hear()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal; after SIGKILL waits until the process is gone."""
        self.process.send_signal(number)
        if number is signal.SIGKILL:
            self.end(kills=True)

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
    """

    def __init__(
        self,
        transports: tuple[str, ...] = (),
        has_network: bool = False,
        holders: Sequence[str] = ("a", "b"),
    ) -> None:
        self.hosts: dict[str, Host] = {}
        self.processes: dict[str, Process] = {}
        self.holders = tuple(holders)
        self._transports = transports
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

    def survivors(self) -> dict[str, Process]:
        """Returns the instances that run, by name."""
        peers = {name: p for name, p in self.processes.items() if name != "controller"}
        return {name: p for name, p in peers.items() if p.process.poll() is None}

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
