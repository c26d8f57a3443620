"""Asks instances what they lend, all at once; the controller knows no leases."""

import asyncio
from collections.abc import Sequence
from contextlib import closing

from p2p.errors import ConfigError, PeerUnreachableError
from p2p.wire.context import WireContext
from p2p.wire.decoders import PEER_REPLIES
from p2p.wire.messages import (
    InstanceView,
    LeaseList,
    ListLeases,
)
from p2p_controller.line import Line
from p2p_controller.views import LeaseReport

_AT_ONCE = 64


async def ask_leases(
    wire: WireContext, views: Sequence[InstanceView], timeout_s: float
) -> LeaseReport:
    """Returns what these instances lend, and who did not answer within ``timeout_s``."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def ask(view: InstanceView) -> LeaseList | None:
        async with places:
            return await _leases_of(wire, view, timeout_s)

    answers = await asyncio.gather(*map(ask, views))
    answer_by_name = {view.instance: answer for view, answer in zip(views, answers, strict=True)}
    return LeaseReport(
        leases_by_holder={
            name: answer.leases for name, answer in answer_by_name.items() if answer is not None
        },
        silent=tuple(name for name, answer in answer_by_name.items() if answer is None),
    )


async def _leases_of(wire: WireContext, view: InstanceView, timeout_s: float) -> LeaseList | None:
    try:
        with closing(Line(wire, view.address, PEER_REPLIES, view.public_key)) as line:
            answer = await line.ask(ListLeases(), timeout_s)
    except (PeerUnreachableError, ConfigError):  # silent, or its address is none
        return None
    return answer if isinstance(answer, LeaseList) else None
