"""Asks many instances the same question at once; who does not answer is named by a None."""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from typing import TypeVar

from p2p.errors import ConfigError, PeerUnreachableError
from p2p.wire.context import WireContext
from p2p.wire.decoders import PEER_REPLIES
from p2p.wire.messages import InstanceView, Message, PeerReply
from p2p_controller.line import Line

_AT_ONCE = 64
R = TypeVar("R", bound=Message)


async def ask_instances(
    wire: WireContext,
    views: Sequence[InstanceView],
    question: Message,
    kind: type[R],
    timeout_s: float,
) -> dict[str, R | None]:
    """Returns the answers by instance; None for who gave none of this kind in ``timeout_s``."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def ask(view: InstanceView) -> R | None:
        async with places:
            answer = await _answer_of(wire, view, question, timeout_s)
        return answer if isinstance(answer, kind) else None

    answers = await asyncio.gather(*map(ask, views))
    return {view.instance: answer for view, answer in zip(views, answers, strict=True)}


async def _answer_of(
    wire: WireContext, view: InstanceView, question: Message, timeout_s: float
) -> PeerReply | None:
    try:
        with closing(Line(wire, view.address, PEER_REPLIES, view.public_key)) as line:
            return await line.ask(question, timeout_s)
    except (PeerUnreachableError, ConfigError):  # silent, or its address is none
        return None
