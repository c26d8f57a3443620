"""What is lent: asked of the instances themselves, all at once; the controller knows no leases."""

import asyncio
from contextlib import closing
from typing import Annotated

import msgspec

from p2p.errors import ConfigError, PeerUnreachableError
from p2p.wire.decoders import PEER_REPLIES
from p2p.wire.messages import InstanceList, InstanceView, LeaseList, ListInstances, ListLeases
from p2p_controller.http.asking import Asking, ask_controller
from p2p_controller.http.line import Line
from p2p_controller.views import LeaseReport

_ANSWER_S = 2.0
_AT_ONCE = 64


class LeaseQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What does every instance lend, and to whom?

    Attributes:
        instance: only this one.
    """

    instance: Annotated[str, msgspec.Meta(max_length=128)] = ""


async def lease_report(
    asking: Asking, request: msgspec.Struct, kind: type[msgspec.Struct]
) -> LeaseReport:
    """Returns the leases of all instances, and who did not answer.

    Raises:
        ProblemError: the controller refused or was silent.
    """
    if not isinstance(request, LeaseQuery):
        raise TypeError(f"{type(request).__name__} for {kind.__name__}")
    listed = await ask_controller(asking, ListInstances(), InstanceList)
    views = [view for view in listed.instances if request.instance in {"", view.instance}]
    places = asyncio.Semaphore(_AT_ONCE)
    answers = await asyncio.gather(*(_leases_of(asking, view, places) for view in views))
    found: dict[str, LeaseList] = {}
    silent: list[str] = []
    for view, answer in zip(views, answers, strict=True):
        if answer is None:
            silent.append(view.instance)
        else:
            found[view.instance] = answer
    leases = {instance: listed.leases for instance, listed in found.items()}
    return LeaseReport(leases_by_holder=leases, silent=tuple(silent))


async def _leases_of(
    asking: Asking, view: InstanceView, places: asyncio.Semaphore
) -> LeaseList | None:
    async with places:
        try:
            line = Line(asking.wire, view.address, PEER_REPLIES, view.public_key)
            with closing(line):
                answer = await line.ask(ListLeases(), _ANSWER_S)
        except (PeerUnreachableError, ConfigError):  # silent, or its address is none
            return None
    return answer if isinstance(answer, LeaseList) else None
