"""A peer process that lends blocks through shared memory; its last argument names the access."""

from p2p.agent.shared_arena import SharedArena
from p2p.channel.shm import Access, ShmChannel, ShmConfig
from tests.contract.blocks import Blocks, Shape
from tests.contract.serve import serve


def open_channel(shape: Shape, seed: int, access: str) -> tuple[Blocks, ShmChannel]:
    """Opens the channel over blocks."""
    blocks = Blocks(shape, seed, SharedArena)
    return blocks, ShmChannel(blocks.region, ShmConfig(access=Access[access]))


if __name__ == "__main__":
    serve(open_channel)
