"""Who asks and what goes out: the values between a responder's loop and its service. No I/O."""

import msgspec

from p2p.wire.codec import RequestId
from p2p.wire.messages import Message


class Sender(msgspec.Struct, frozen=True):
    """Who sent a request, and under which id it waits for the answer."""

    route: bytes
    request_id: RequestId


class Outgoing(msgspec.Struct, frozen=True):
    """One answer on its way."""

    to: Sender
    message: Message
