"""Hosts on one machine: network namespaces on a bridge, whose links can be cut and slowed.

Needs root and iproute2. Nothing of the machine's own network is changed.
"""

import functools
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

DEVICE = "eth0"
_PREFIX = "p2pnet"
_CARRIER_S = 5.0
_COMMAND_S = 10.0
_BURST_S = 0.004  # a timer tick's worth of bytes, or the rate is not reached
_LEAST_BURST = 128 << 10  # above one segment that the kernel has not cut yet


class NetworkError(Exception):
    """A command failed; the text is the command and what it said."""


class Host:
    """A namespace with one device on the bridge. Made by `Network.add`.

    Attributes:
        name: as given.
        address: its IPv4 address.
        device: its network device, ``eth0``.
    """

    def __init__(self, network: "Network", number: int, name: str) -> None:
        self.name = name
        self.address = network.address(number + 1)
        self.device = DEVICE
        self.processes: list[subprocess.Popen[bytes]] = []
        self._namespace = f"{_PREFIX}-{network.tag}-{number}"
        self._port = f"pv{network.tag}{number}"
        self._mac = f"02:{network.tag[:2]}:{network.tag[2:4]}:{network.tag[4:]}:00:{number:02x}"
        self._bridge = network.bridge

    def open(self) -> None:
        """Makes the namespace and its link, and waits until the link carries frames."""
        space = self._namespace
        _run("ip", "netns", "add", space)
        peer = ("peer", "name", DEVICE, "address", self._mac, "netns", space)
        _run("ip", "link", "add", self._port, "type", "veth", *peer)
        _run("ip", "link", "set", self._port, "master", self._bridge, "up")
        _run("ip", "-n", space, "link", "set", "lo", "up")
        _run("ip", "-n", space, "addr", "add", f"{self.address}/24", "dev", DEVICE)
        _run("ip", "-n", space, "link", "set", DEVICE, "up")
        _until(lambda: self._is_carrying)

    def close(self) -> None:
        """Kills what `popen` started and is left, and removes the namespace with its link."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait(_COMMAND_S)
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
        for command in (("link", "del", self._port), ("netns", "del", self._namespace)):
            with suppress(NetworkError):
                _run("ip", *command)

    def popen(
        self,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> "subprocess.Popen[bytes]":
        """Starts a program here; its pid is the program's own. It is killed with the network."""
        command = ["ip", "netns", "exec", self._namespace, *argv]
        process = subprocess.Popen(command, env=env, stdin=stdin, stdout=stdout, stderr=stderr)
        self.processes.append(process)
        return process

    def cut(self) -> None:
        """Takes the link down: the host loses its carrier, and frames of both ways are lost."""
        _run("ip", "link", "set", self._port, "down")

    def heal(self) -> None:
        """Undoes every cut and waits until the link carries frames."""
        _run("ip", "link", "set", self._port, "up")
        _run("bridge", "link", "set", "dev", self._port, "learning", "on", "locked", "off")
        with suppress(NetworkError):  # there was no cut of this kind
            _run("tc", "qdisc", "del", "dev", self._port, "root")
        _until(lambda: self._is_carrying)

    def cut_in(self) -> None:
        """Loses, silently, all frames to the host; the link stays up."""
        _run("tc", "qdisc", "replace", "dev", self._port, "root", "pfifo", "limit", "0")

    def cut_out(self) -> None:
        """Loses, silently, all frames from the host; the link stays up."""
        _run("bridge", "link", "set", "dev", self._port, "learning", "off", "locked", "on")
        with suppress(NetworkError):  # the bridge had not learned it
            _run("bridge", "fdb", "del", self._mac, "dev", self._port, "master")

    def limit(self, rate_mbit: float) -> None:
        """Bounds what the host sends; a limit that is there already is replaced at once."""
        burst = max(_LEAST_BURST, int(rate_mbit * 125_000 * _BURST_S))
        shape = ("rate", f"{int(rate_mbit * 1000)}kbit", "burst", str(burst), "latency", "50ms")
        self._tc("replace", "dev", DEVICE, "root", "tbf", *shape)

    def unlimit(self) -> None:
        """Removes the bound, if there is one."""
        with suppress(NetworkError):
            self._tc("del", "dev", DEVICE, "root")

    @property
    def sent_bytes(self) -> int:
        """Bytes of all frames that the host has sent so far."""
        return int(Path(f"/sys/class/net/{self._port}/statistics/rx_bytes").read_text())

    def _tc(self, *words: str) -> None:
        _run("tc", "-n", self._namespace, "qdisc", *words)

    @property
    def _is_carrying(self) -> bool:
        device = _run("ip", "-n", self._namespace, "-o", "link", "show", DEVICE)
        port = _run("bridge", "link", "show", "dev", self._port)
        return "LOWER_UP" in device and "state forwarding" in port


class Network:
    """A bridge and the hosts on it; a context manager that removes them all."""

    def __init__(self) -> None:
        self.tag = secrets.token_hex(3)
        self.bridge = f"pb{self.tag}"
        self.hosts: dict[str, Host] = {}
        self._subnet = _free_subnet()

    def address(self, number: int) -> str:
        """Returns an address of this network."""
        return f"{self._subnet}.{number}"

    def add(self, name: str, rate_mbit: float | None = None) -> Host:
        """Returns a new host, whose sending is bounded if a rate is given."""
        host = Host(self, len(self.hosts) + 1, name)
        self.hosts[name] = host
        host.open()
        if rate_mbit is not None:
            host.limit(rate_mbit)
        return host

    @functools.cached_property
    def gateway(self) -> str:
        """The address of the namespace that we run in, which joins the bridge when asked."""
        _run("ip", "addr", "add", f"{self.address(1)}/24", "dev", self.bridge)
        return self.address(1)

    def close(self) -> None:
        """Removes hosts and bridge. Idempotent."""
        for host in self.hosts.values():
            host.close()
        self.hosts.clear()
        with suppress(NetworkError):
            _run("ip", "link", "del", self.bridge)

    def __enter__(self) -> Self:
        try:
            _run("ip", "link", "add", self.bridge, "type", "bridge", "forward_delay", "0")
            _run("ip", "link", "set", self.bridge, "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@functools.cache
def is_supported() -> str:
    """Returns why networks cannot be made here; empty if they can. Makes a small one to see."""
    for program in ("ip", "tc", "bridge"):
        if shutil.which(program) is None:
            return f"{program!r} of iproute2 is not installed"
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        with Network() as network:
            network.add("probe", rate_mbit=100)
    except NetworkError as error:
        return f"network namespaces do not work here: {error}"
    return ""


def _free_subnet() -> str:
    used = _run("ip", "-o", "-4", "route", "show", "table", "all")
    while True:
        subnet = f"10.{128 + secrets.randbelow(120)}.{secrets.randbelow(256)}"
        if f"{subnet}." not in used:
            return subnet


def _until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + _CARRIER_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise NetworkError(f"no carrier within {_CARRIER_S} s")
        time.sleep(0.005)


def _run(*command: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_COMMAND_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NetworkError(f"{' '.join(command)}: {error}") from error
    if done.returncode != 0:
        raise NetworkError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
