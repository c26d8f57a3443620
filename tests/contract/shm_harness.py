"""Where the channel suite runs for `shm`: in one process, and between processes."""

from p2p.agent.shared_arena import SharedArena
from p2p.channel.base import Channel
from p2p.channel.shm import Access, ShmChannel, ShmConfig
from tests.contract.blocks import Blocks, Shape
from tests.contract.harness import Peer, ProcessPeer

READS_INLINE = ShmConfig(num_threads=2, access=Access.WRITE)
READS_ASIDE = ShmConfig(num_threads=2, inline_bytes=0, access=Access.WRITE)


class ShmLocalPeer:
    """A second channel in this process: can be closed, not stopped."""

    def __init__(self, shape: Shape, seed: int) -> None:
        self._blocks = Blocks(shape, seed, SharedArena)
        self._channel = ShmChannel(self._blocks.region, READS_INLINE)
        self.offer = self._channel.offer()

    def kill(self) -> None:
        self._channel.close()

    def stop(self) -> None:
        raise NotImplementedError

    def resume(self) -> None:
        raise NotImplementedError


class ShmLocalHarness:
    channel = "shm"
    transport = "shm"
    can_kill = False
    hangs_when_stopped = False

    def __init__(self) -> None:
        self._ended: list[ShmLocalPeer] = []
        self._channels: list[ShmChannel] = []

    def open(self, blocks: Blocks) -> Channel:
        channel = ShmChannel(blocks.region, READS_INLINE)
        self._channels.append(channel)
        return channel

    def start_peer(self, name: str, shape: Shape, seed: int) -> Peer:
        peer = ShmLocalPeer(shape, seed)
        self._ended.append(peer)
        return peer

    share_peer = start_peer

    def end_test(self) -> None:
        for channel in self._channels:
            channel.close()
        for peer in self._ended:
            peer.kill()
        self._channels.clear()
        self._ended.clear()

    def end(self) -> None:
        pass


class ShmHarness:
    """Peers in processes of their own; they lend their memory for writing too."""

    channel = "shm"
    transport = "shm"
    can_kill = True
    hangs_when_stopped = False

    def __init__(self, config: ShmConfig) -> None:
        self._config = config
        self._channels: list[ShmChannel] = []
        self._peers: list[ProcessPeer] = []
        self._shared: dict[tuple[str, Shape, int], ProcessPeer] = {}

    def open(self, blocks: Blocks) -> Channel:
        channel = ShmChannel(blocks.region, self._config)
        self._channels.append(channel)
        return channel

    def start_peer(self, name: str, shape: Shape, seed: int) -> ProcessPeer:
        peer = shm_peer(shape, seed, self._config.access)
        self._peers.append(peer)
        return peer

    def share_peer(self, name: str, shape: Shape, seed: int) -> ProcessPeer:
        key = (name, shape, seed)
        if key not in self._shared:
            self._shared[key] = shm_peer(shape, seed, self._config.access)
        return self._shared[key]

    def end_test(self) -> None:
        for channel in self._channels:
            channel.close()
        for peer in self._peers:
            peer.kill()
        self._channels.clear()
        self._peers.clear()

    def end(self) -> None:
        for peer in self._shared.values():
            peer.kill()
        self._shared.clear()


def shm_peer(shape: Shape, seed: int, access: Access) -> ProcessPeer:
    """Starts a process that lends blocks for an access."""
    return ProcessPeer(shape, seed, access.name, "tests.contract.shm_peer")
