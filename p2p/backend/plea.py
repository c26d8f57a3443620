"""A peer's request to take some of its chunks over. No I/O, no clock, no threads."""

from dataclasses import dataclass

from p2p.wire.exchange import Sender
from p2p.wire.messages import TakeOver


@dataclass(frozen=True, slots=True)
class Plea:
    """A peer asked us to take over some of its chunks, and waits until ``deadline_s``."""

    sender: Sender
    request: TakeOver
    deadline_s: float
