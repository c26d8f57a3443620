"""Where the channel suite runs for `shm`: in one process, and between processes."""

from p2p.agent.shared_arena import SharedArena
from p2p.channel.base import Channel
from p2p.channel.shm import Access, ShmChannel, ShmConfig
from tests.contract.blocks import Blocks, Shape
from tests.contract.harness import OneProcessHarness, ProcessesHarness, ProcessPeer

READS_INLINE = ShmConfig(num_threads=2, access=Access.WRITE)
READS_ASIDE = ShmConfig(num_threads=2, inline_bytes=0, access=Access.WRITE)


class ShmLocalHarness(OneProcessHarness):
    channel = "shm"
    transport = "shm"

    def open_channel(self, blocks: Blocks) -> Channel:
        return ShmChannel(blocks.region, READS_INLINE)

    def make_blocks(self, shape: Shape, seed: int) -> Blocks:
        return Blocks(shape, seed, SharedArena)


class ShmHarness(ProcessesHarness):
    """Peers in processes of their own; they lend their memory for writing too."""

    channel = "shm"
    transport = "shm"

    def __init__(self, config: ShmConfig) -> None:
        super().__init__()
        self._config = config

    def open_channel(self, blocks: Blocks) -> Channel:
        return ShmChannel(blocks.region, self._config)

    def start_process(self, shape: Shape, seed: int) -> ProcessPeer:
        return shm_peer(shape, seed, self._config.access)


def shm_peer(shape: Shape, seed: int, access: Access) -> ProcessPeer:
    """Starts a process that lends blocks for an access."""
    return ProcessPeer(shape, seed, access.name, "tests.contract.shm_peer")
