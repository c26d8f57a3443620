"""Where the channel suite runs for `tcp`: in one process, and between processes."""

from p2p.channel.base import Channel
from p2p.channel.tcp import Access, TcpChannel, TcpConfig
from tests.contract.blocks import Blocks, Shape
from tests.contract.harness import OneProcessHarness, ProcessesHarness, ProcessPeer
from tests.net.namespaces import Host, Network

WRITABLE = TcpConfig(num_streams=1, access=Access.WRITE)
PARALLEL = TcpConfig(num_streams=3, access=Access.WRITE)


class TcpLocalHarness(OneProcessHarness):
    channel = "tcp"
    transport = "tcp"

    def open_channel(self, blocks: Blocks) -> Channel:
        return TcpChannel(blocks.region, WRITABLE)

    def make_blocks(self, shape: Shape, seed: int) -> Blocks:
        return Blocks(shape, seed)


class TcpHarness(ProcessesHarness):
    """Peers in processes of their own; they lend their memory for writing too."""

    channel = "tcp"
    transport = "tcp"
    hangs_when_stopped = True
    closing_quiesces = True

    def __init__(self, config: TcpConfig) -> None:
        super().__init__()
        self._config = config

    def open_channel(self, blocks: Blocks) -> Channel:
        return TcpChannel(blocks.region, self._config)

    def start_process(self, shape: Shape, seed: int) -> ProcessPeer:
        return tcp_peer(shape, seed)


class TcpHostsHarness(TcpHarness):
    """Each peer on a host of its own."""

    def __init__(self, config: TcpConfig) -> None:
        super().__init__(config)
        self.network = Network()
        self.network.__enter__()
        self.address = self.network.gateway

    def start_process(self, shape: Shape, seed: int) -> ProcessPeer:
        host = self.network.add(f"peer{len(self.network.hosts)}")
        return tcp_peer(shape, seed, host)

    def end(self) -> None:
        super().end()
        self.network.close()


def tcp_peer(shape: Shape, seed: int, host: Host | None = None) -> ProcessPeer:
    """Starts a process that lends blocks for reading and writing."""
    address = host.address if host else "127.0.0.1"
    return ProcessPeer(shape, seed, address, "tests.contract.tcp_peer", host)
