"""Staging: copies through a ring of host buffers, for devices that the network cannot reach.

`model` says how long it takes and how large slots are, `ring` who has which slot, `copy` and `pump`
drive pieces through `stages`, `buffers` is the memory.
"""

from p2p.channel.staging.buffers import StagingBuffers
from p2p.channel.staging.copy import StagedCopy
from p2p.channel.staging.model import RingSize, StageCost, StagingModel, ring_size
from p2p.channel.staging.pump import StagingPump
from p2p.channel.staging.ring import Claim, Granted, SlotPhase, SlotRing, WaiterId
from p2p.channel.staging.stages import (
    Direction,
    LinkStage,
    Stage,
    StreamStage,
    ThreadStage,
    Work,
)

__all__ = [
    "Claim",
    "Direction",
    "Granted",
    "LinkStage",
    "RingSize",
    "SlotPhase",
    "SlotRing",
    "Stage",
    "StageCost",
    "StagedCopy",
    "StagingBuffers",
    "StagingModel",
    "StagingPump",
    "StreamStage",
    "ThreadStage",
    "WaiterId",
    "Work",
    "ring_size",
]
