"""A controller and three instances on this machine, ended whatever happens."""

import socket
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self, TypeVar

from examples.p2p_sharing.messages import Ready
from examples.p2p_sharing.processes import InstanceProcess, Process

NAMES = ("a", "b", "c")
_START_TIMEOUT_S = 120.0
_CONTROLLER_TIMEOUT_S = 20.0
_P = TypeVar("_P", bound=Process)


class OwnedProcesses:
    """Processes with a folder for their logs: a context manager that ends them all."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="p2p-demo-")
        self._processes: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in reversed(self._processes):
            process.stop()
        self._folder.cleanup()

    @property
    def logs(self) -> Path:
        """Where each process's output goes."""
        return Path(self._folder.name)

    def add(self, process: _P) -> _P:
        """Takes charge of a process."""
        self._processes.append(process)
        return process

    def start_controller(self, address: str) -> Process:
        """Starts a controller; returns it once it listens.

        Raises:
            DemoError: it did not start.
        """
        serve = ["p2p_controller", "serve", "--bind", address]
        controller = self.add(Process("controller", serve, self.logs))
        await_port(controller, address)
        return controller


class Cluster(OwnedProcesses):
    """The demo's controller and instances."""

    def __init__(self) -> None:
        super().__init__()
        self._instance_by_name: dict[str, InstanceProcess] = {}

    def prepare_model(self) -> None:
        """Converts the model in a process of its own.

        Raises:
            DemoError: that failed.
        """
        self.add(Process("model", ["examples.p2p_sharing.model"], self.logs)).wait()

    def start(self) -> None:
        """Starts the controller and all instances; returns once every model is loaded.

        Raises:
            DemoError: one of them did not start.
        """
        address = f"tcp://127.0.0.1:{free_port()}"
        self.start_controller(address)
        for name in NAMES:
            instance = InstanceProcess(name, address, self.logs)
            self._instance_by_name[name] = self.add(instance)
        for instance in self._instance_by_name.values():
            instance.expect(Ready, _START_TIMEOUT_S)

    def instance(self, name: str) -> InstanceProcess:
        """Returns an instance that was started."""
        return self._instance_by_name[name]


def free_port() -> int:
    """Returns a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def await_port(controller: Process, address: str) -> None:
    """Returns once a process listens on an address.

    Raises:
        DemoError: it does not in time, or it has ended.
    """
    host, port = address.removeprefix("tcp://").split(":")
    deadline = time.monotonic() + _CONTROLLER_TIMEOUT_S
    while time.monotonic() < deadline:
        if controller.has_ended():
            raise controller.failure("it was expected to serve")
        try:
            socket.create_connection((host, int(port)), timeout=1.0).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise controller.failure(f"nothing listens on {address}")
