"""Where the channel suite runs: on a fake network, in one process, between processes."""

import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Protocol

import msgspec

from p2p.agent.nixl_config import NixlConfig
from p2p.channel.base import Channel, ChannelOffer
from p2p.channel.fake import FakeChannel, FakeNetwork, Pace
from p2p.channel.nixl import NixlChannel
from tests.contract.blocks import Blocks, Shape
from tests.net.namespaces import Host

ROOT = Path(__file__).parents[2]
NIXL_PEER = "tests.contract.nixl_peer"


class Peer(Protocol):
    """The other side of a link, as far as a test may touch it."""

    offer: ChannelOffer

    def kill(self) -> None: ...
    def stop(self) -> None: ...
    def resume(self) -> None: ...


class Harness(Protocol):
    """Makes channels and peers of one kind."""

    channel: str
    transport: str
    can_kill: bool
    hangs_when_stopped: bool
    closing_quiesces: bool  # what is in flight on a link that is closed

    def open(self, blocks: Blocks) -> Channel: ...
    def start_peer(self, name: str, shape: Shape, seed: int) -> Peer: ...
    def share_peer(self, name: str, shape: Shape, seed: int) -> Peer:
        """As `start_peer`, but the test promises to leave it as it is."""
        ...

    def end_test(self) -> None: ...
    def end(self) -> None: ...


class FakePeer:
    def __init__(self, network: FakeNetwork, name: str, blocks: Blocks) -> None:
        self._network = network
        self._name = name
        self._blocks = blocks
        self.offer = FakeChannel(network, name, blocks.region).offer()

    def kill(self) -> None:
        self._network.kill(self._name)

    def stop(self) -> None:
        self._network.stop(self._name)

    def resume(self) -> None:
        self._network.resume(self._name)


class FakeHarness:
    channel = "fake"
    transport = "memory"
    can_kill = True
    hangs_when_stopped = True
    closing_quiesces = False

    def __init__(self) -> None:
        self.network = FakeNetwork(Pace.PER_POLL)

    def open(self, blocks: Blocks) -> Channel:
        return FakeChannel(self.network, "us", blocks.region)

    def start_peer(self, name: str, shape: Shape, seed: int) -> Peer:
        return FakePeer(self.network, name, Blocks(shape, seed))

    share_peer = start_peer

    def end_test(self) -> None:
        self.network = FakeNetwork(Pace.PER_POLL)

    def end(self) -> None:
        pass


class LocalPeer:
    """A second channel in this process: can be closed, not stopped."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.offer = channel.offer()

    def kill(self) -> None:
        self._channel.close()

    def stop(self) -> None:
        raise NotImplementedError

    def resume(self) -> None:
        raise NotImplementedError


class OneProcessHarness(ABC):
    """Both sides in this process; a kind of channel says how one is opened."""

    channel: str
    transport: str
    can_kill = False
    hangs_when_stopped = False
    closing_quiesces = False

    def __init__(self) -> None:
        self._opened: list[Channel] = []

    @abstractmethod
    def open_channel(self, blocks: Blocks) -> Channel:
        """Opens a channel over blocks; `end_test` closes it."""

    @abstractmethod
    def make_blocks(self, shape: Shape, seed: int) -> Blocks:
        """Returns what a peer serves, in memory that the channel can serve from."""

    def open(self, blocks: Blocks) -> Channel:
        channel = self.open_channel(blocks)
        self._opened.append(channel)
        return channel

    def start_peer(self, name: str, shape: Shape, seed: int) -> Peer:
        return LocalPeer(self.open(self.make_blocks(shape, seed)))

    share_peer = start_peer

    def end_test(self) -> None:
        for channel in self._opened:
            channel.close()
        self._opened.clear()

    def end(self) -> None:
        self.end_test()


class LocalHarness(OneProcessHarness):
    channel = "nixl"
    transport = "cma"

    def open_channel(self, blocks: Blocks) -> Channel:
        return NixlChannel(blocks.region)

    def make_blocks(self, shape: Shape, seed: int) -> Blocks:
        return Blocks(shape, seed)


class ProcessPeer:
    def __init__(
        self,
        shape: Shape,
        seed: int,
        transports: str,
        module: str = NIXL_PEER,
        host: Host | None = None,
    ) -> None:
        lengths = ",".join(str(length) for length in shape.lengths)
        arguments = [str(shape.num_blocks), str(shape.gap), lengths, str(seed), transports]
        popen = subprocess.Popen if host is None else host.popen
        self._process = popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self._process.stdin
        assert self._process.stdout
        size = int.from_bytes(self._process.stdout.read(4), "little")
        content = self._process.stdout.read(size)
        self.offer = msgspec.msgpack.decode(content, type=ChannelOffer)
        self.pid = self._process.pid

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)


class ProcessesHarness(ABC):
    """Each peer in a process of its own; a kind of channel says how both sides begin."""

    channel: str
    transport: str
    can_kill = True
    hangs_when_stopped = False
    closing_quiesces = False

    def __init__(self) -> None:
        self._opened: list[Channel] = []
        self._peers: list[ProcessPeer] = []
        self._shared: dict[tuple[str, Shape, int], ProcessPeer] = {}

    @abstractmethod
    def open_channel(self, blocks: Blocks) -> Channel:
        """Opens this process's side; `end_test` closes it."""

    @abstractmethod
    def start_process(self, shape: Shape, seed: int) -> ProcessPeer:
        """Starts a process that serves blocks."""

    def open(self, blocks: Blocks) -> Channel:
        channel = self.open_channel(blocks)
        self._opened.append(channel)
        return channel

    def start_peer(self, name: str, shape: Shape, seed: int) -> ProcessPeer:
        peer = self.start_process(shape, seed)
        self._peers.append(peer)
        return peer

    def share_peer(self, name: str, shape: Shape, seed: int) -> ProcessPeer:
        key = (name, shape, seed)
        if key not in self._shared:
            self._shared[key] = self.start_process(shape, seed)
        return self._shared[key]

    def end_test(self) -> None:
        for channel in self._opened:
            channel.close()
        for peer in self._peers:
            peer.kill()
        self._opened.clear()
        self._peers.clear()

    def end(self) -> None:
        for peer in self._shared.values():
            peer.kill()
        self._shared.clear()


class ProcessHarness(ProcessesHarness):
    channel = "nixl"

    def __init__(self, transports: str) -> None:
        super().__init__()
        self._transports = transports
        self.transport = "tcp" if transports == "tcp" else "cma"
        self.hangs_when_stopped = transports == "tcp"

    def open_channel(self, blocks: Blocks) -> Channel:
        config = NixlConfig(transports=(self._transports,) if self._transports else ())
        return NixlChannel(blocks.region, config)

    def start_process(self, shape: Shape, seed: int) -> ProcessPeer:
        return ProcessPeer(shape, seed, self._transports)
