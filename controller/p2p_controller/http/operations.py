"""The table of operations: what is asked, what is answered, and who may ask.

A new operation of the controller is one line here: its request and reply structs say the rest.
"""

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import msgspec

from p2p.keys import split_keys
from p2p.wire.messages import (
    Clear,
    Cleared,
    ControllerStatus,
    Done,
    Drain,
    Drained,
    Evict,
    Evicted,
    Explain,
    Explained,
    GetStatus,
    InstanceList,
    ListInstances,
    ListRequests,
    Locate,
    Located,
    Move,
    Moved,
    Pin,
    Pinned,
    Replicate,
    Replicated,
    RequestList,
    Shutdown,
    Unpin,
    Unpinned,
)
from p2p_controller.http.asking import Answer, Asking, ask_controller
from p2p_controller.http.bodies import BodyType
from p2p_controller.http.leases import LeaseQuery, lease_report
from p2p_controller.views import LeaseReport, LocateReport


class Verb(Enum):
    """How an operation is asked for."""

    GET = "GET"
    POST = "POST"


@dataclass(frozen=True)
class Operation:
    """One row of the table.

    Attributes:
        name: last part of the path, ``/v1/NAME``.
        verb: GET for views whose request fits into a query, POST for the rest.
        request: what the query or the body stands for.
        reply: what is answered, as JSON.
        is_change: it changes something, so not everybody may ask for it.
        answer: how the reply is got.
    """

    name: str
    verb: Verb
    request: type[msgspec.Struct]
    reply: type[msgspec.Struct]
    is_change: bool = False
    answer: Answer = ask_controller

    @property
    def path(self) -> str:
        """Where it is."""
        return f"/v1/{self.name}"

    @cached_property
    def body(self) -> BodyType[msgspec.Struct]:
        """The JSON form of its request."""
        return BodyType(self.request)


async def _locate(
    asking: Asking, request: msgspec.Struct, kind: type[msgspec.Struct]
) -> LocateReport:
    if not isinstance(request, Locate):
        raise TypeError(f"{type(request).__name__} for {kind.__name__}")
    located = await ask_controller(asking, request, Located)
    return LocateReport.of(located, len(split_keys(request.keys, request.key_bytes)))


OPERATIONS = (
    Operation("status", Verb.GET, GetStatus, ControllerStatus),
    Operation("instances", Verb.GET, ListInstances, InstanceList),
    Operation("leases", Verb.GET, LeaseQuery, LeaseReport, answer=lease_report),
    Operation("locate", Verb.POST, Locate, LocateReport, answer=_locate),
    Operation("explain", Verb.POST, Explain, Explained),
    Operation("requests", Verb.GET, ListRequests, RequestList),
    Operation("pin", Verb.POST, Pin, Pinned, is_change=True),
    Operation("unpin", Verb.POST, Unpin, Unpinned, is_change=True),
    Operation("replicate", Verb.POST, Replicate, Replicated, is_change=True),
    Operation("move", Verb.POST, Move, Moved, is_change=True),
    Operation("evict", Verb.POST, Evict, Evicted, is_change=True),
    Operation("clear", Verb.POST, Clear, Cleared, is_change=True),
    Operation("drain", Verb.POST, Drain, Drained, is_change=True),
    Operation("shutdown", Verb.POST, Shutdown, Done, is_change=True),
)
