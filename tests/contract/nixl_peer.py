"""A peer process: serves blocks through NIXL until its standard input closes.

Arguments: blocks, gap, lengths separated by commas, seed, transports separated by commas.
Writes the offer's length and the offer to standard output.
"""

import sys

import msgspec

from p2p.agent.nixl_config import NixlConfig
from p2p.channel.nixl import NixlChannel
from tests.contract.blocks import Blocks, Shape


def main() -> None:
    num_blocks, gap, lengths, seed, transports = sys.argv[1:]
    shape = Shape(int(num_blocks), tuple(int(x) for x in lengths.split(",")), int(gap))
    blocks = Blocks(shape, int(seed))
    config = NixlConfig(transports=tuple(t for t in transports.split(",") if t))
    channel = NixlChannel(blocks.region, config)
    offer = msgspec.msgpack.encode(channel.offer())
    sys.stdout.buffer.write(len(offer).to_bytes(4, "little") + offer)
    sys.stdout.flush()
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
