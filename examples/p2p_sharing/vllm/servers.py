"""A controller and vLLM servers on this machine, ended whatever happens."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Self

import msgspec

from examples.p2p_sharing.cluster import OwnedProcesses, free_port
from examples.p2p_sharing.processes import DemoError, Process
from examples.p2p_sharing.vllm.client import Client

MODEL = "model"
_START_S = 240.0
_KV_BYTES = 512 << 20


class Server(Process):
    """One ``vllm serve`` on one core.

    Attributes:
        client: asks it.
    """

    client: Client


class Servers(OwnedProcesses):
    """The controller, which runs from the start, and the servers that are asked for.

    Args:
        model: its folder.
        options: of ``vllm serve``, beside ours.

    Attributes:
        controller: its address.
        controller_process: the first one, once entered.
    """

    controller_process: Process

    def __init__(self, model: Path, *options: str) -> None:
        super().__init__()
        self._model = model
        self._options = options
        self.controller = f"tcp://127.0.0.1:{free_port()}"

    def __enter__(self) -> Self:
        self.controller_process = self.start_controller(self.controller)
        return self

    def start(
        self,
        name: str,
        cores: str,
        extra: Mapping[str, object] = MappingProxyType({}),
        *options: str,
    ) -> Server:
        """Starts a server that shares; it is ready later (`await_ready`).

        Args:
            name: of the instance.
            cores: of each worker, as ``VLLM_CPU_OMP_THREADS_BIND`` wants them.
            extra: of the connector's settings.
            options: of ``vllm serve``, beside those of all servers.
        """
        connector = {
            "kv_connector": "P2PConnector",
            "kv_role": "kv_both",
            "kv_load_failure_policy": "recompute",
            "kv_connector_extra_config": {
                "controller": self.controller,
                "instance": name,
                "pool_bytes": "512MiB",
                **extra,
            },
        }
        encoded = msgspec.json.encode(connector).decode()
        return self.start_plain(name, cores, "--kv-transfer-config", encoded, *options)

    def start_plain(
        self,
        name: str,
        cores: str,
        *options: str,
        variables: Mapping[str, str] = MappingProxyType({}),
        python: str = sys.executable,
    ) -> Server:
        """Starts a server without our connector, or with another one that the options name.

        Args:
            name: of its log.
            cores: of each worker, as ``VLLM_CPU_OMP_THREADS_BIND`` wants them.
            options: of ``vllm serve``; they override ours.
            variables: of its environment.
            python: that has vLLM.
        """
        port = free_port()
        words = {
            "--dtype": "float32",
            "--port": str(port),
            "--host": "127.0.0.1",
            "--served-model-name": MODEL,
            "--kv-cache-memory-bytes": str(_KV_BYTES),
        }
        command = ["vllm.entrypoints.cli.main", "serve", str(self._model), "--enforce-eager"]
        command += ["--enable-prompt-tokens-details"]
        command += [word for pair in words.items() for word in pair]
        command += [*self._options, *options]  # of two equal ones, vLLM takes the later
        own = {"VLLM_CPU_OMP_THREADS_BIND": cores, "VLLM_SERVER_DEV_MODE": "1"}
        server = Server(name, command, self.logs, {**own, **variables}, python)
        server.client = Client(port, MODEL)
        return self.add(server)


def await_ready(*servers: Server) -> None:
    """Returns once all servers answer.

    Raises:
        DemoError: one has ended, or does not answer in time; with the end of its log.
    """
    deadline_s = time.monotonic() + _START_S
    for server in servers:
        while not server.client.is_ready():
            if server.has_ended() or time.monotonic() > deadline_s:
                raise server.failure("it was expected to serve")
            time.sleep(0.2)


def await_counter(server: Server, name: str, at_least: float, timeout_s: float = 10.0) -> None:
    """Returns once a counter of the connector has grown so far.

    Raises:
        DemoError: it has not in time.
    """
    deadline_s = time.monotonic() + timeout_s
    while server.client.metrics().get(name, 0.0) < at_least:
        if time.monotonic() > deadline_s:
            raise DemoError(
                f"{server.name}: {name} stays below {at_least}: {server.client.metrics()}"
            )
        time.sleep(0.05)
