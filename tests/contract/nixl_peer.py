"""A peer process that serves blocks through NIXL; its last argument is a list of transports."""

from p2p.agent.nixl_config import NixlConfig
from p2p.channel.nixl import NixlChannel
from tests.contract.blocks import Blocks, Shape
from tests.contract.serve import serve


def open_channel(shape: Shape, seed: int, transports: str) -> tuple[Blocks, NixlChannel]:
    """Opens the channel over blocks."""
    blocks = Blocks(shape, seed)
    config = NixlConfig(transports=tuple(t for t in transports.split(",") if t))
    return blocks, NixlChannel(blocks.region, config)


if __name__ == "__main__":
    serve(open_channel)
