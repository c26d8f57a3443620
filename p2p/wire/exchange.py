"""Who asks and what goes out: the values between a responder's loop and its service. No I/O."""

from dataclasses import dataclass

from p2p.wire.codec import RequestId
from p2p.wire.messages import Message


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent a request, and under which id it waits for the answer."""

    route: bytes
    request_id: RequestId


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One answer on its way."""

    to: Sender
    message: Message
