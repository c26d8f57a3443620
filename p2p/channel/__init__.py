"""Ways to move bytes between registered regions of two ranks, under one contract.

`base` is the contract, `registry` opens a channel by name, `fake` is the one for tests.
"""

from p2p.channel.base import (
    BlockIndexes,
    Channel,
    ChannelName,
    ChannelOffer,
    Link,
    Transfer,
    TransferState,
)
from p2p.channel.registry import ChannelSettings, channel_names, open_channel

__all__ = [
    "BlockIndexes",
    "Channel",
    "ChannelName",
    "ChannelOffer",
    "ChannelSettings",
    "Link",
    "Transfer",
    "TransferState",
    "channel_names",
    "open_channel",
]
