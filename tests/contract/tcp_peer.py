"""A peer process: lends blocks over TCP until its standard input closes.

Arguments: blocks, gap, lengths separated by commas, seed, address on which it listens.
Writes the offer's length and the offer to standard output.
"""

import sys

import msgspec

from p2p.channel.tcp import Access, TcpChannel, TcpConfig
from tests.contract.blocks import Blocks, Shape


def main() -> None:
    num_blocks, gap, lengths, seed, address = sys.argv[1:]
    shape = Shape(int(num_blocks), tuple(int(x) for x in lengths.split(",")), int(gap))
    blocks = Blocks(shape, int(seed))
    channel = TcpChannel(blocks.region, TcpConfig(host=address, access=Access.WRITE))
    offer = msgspec.msgpack.encode(channel.offer())
    sys.stdout.buffer.write(len(offer).to_bytes(4, "little") + offer)
    sys.stdout.flush()
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
