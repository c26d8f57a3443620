"""What every peer process does: it serves blocks until its standard input closes.

Arguments: blocks, gap, lengths separated by commas, seed, and one word for the kind of channel.
Writes the offer's length and the offer to standard output.
"""

import sys
from collections.abc import Callable

import msgspec

from p2p.channel.base import Channel
from tests.contract.blocks import Blocks, Shape


def serve(open_channel: Callable[[Shape, int, str], tuple[Blocks, Channel]]) -> None:
    """Serves what ``open_channel`` makes of the arguments: shape, seed, and the last word."""
    num_blocks, gap, lengths, seed, word = sys.argv[1:]
    shape = Shape(int(num_blocks), tuple(int(x) for x in lengths.split(",")), int(gap))
    served = open_channel(shape, int(seed), word)
    offer = msgspec.msgpack.encode(served[1].offer())
    sys.stdout.buffer.write(len(offer).to_bytes(4, "little") + offer)
    sys.stdout.flush()
    sys.stdin.buffer.read()
