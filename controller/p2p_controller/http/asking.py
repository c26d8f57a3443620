"""How an operation gets its answer: from the controller, or from the instances themselves."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

import msgspec

from p2p.errors import PeerUnreachableError, ProtocolError
from p2p.wire.context import WireContext
from p2p.wire.messages import ControllerReply, Message, Refusal
from p2p_controller.http.problems import Problem, ProblemError, refused, silent
from p2p_controller.line import Line

ANSWER_S = 3.0
R = TypeVar("R", bound=msgspec.Struct)


@dataclass(frozen=True)
class Asking:
    """What an operation is answered with.

    Attributes:
        controller: the line to it.
        wire: for lines to instances.
    """

    controller: Line[ControllerReply]
    wire: WireContext


Answer = Callable[[Asking, msgspec.Struct, type[msgspec.Struct]], Awaitable[msgspec.Struct]]


async def ask_controller(
    asking: Asking, request: msgspec.Struct, kind: type[R], timeout_s: float = ANSWER_S
) -> R:
    """Passes a message on; returns the answer if it is of the expected kind.

    Args:
        asking: whom to ask.
        request: a message; if it says how long the controller may take, that time is added.
        kind: of the answer.
        timeout_s: how long to wait.

    Raises:
        ProblemError: the controller refused, was silent, or said something else.
    """
    if not isinstance(request, Message):
        raise TypeError(f"{type(request).__name__} is no message")
    own_s = getattr(request, "timeout_ms", 0) / 1000
    try:
        reply = await asking.controller.ask(request, timeout_s + own_s)
    except PeerUnreachableError as error:
        raise silent(str(error)) from error
    except ProtocolError as error:
        problem = Problem(code="too_large", message=str(error))
        raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, problem) from error
    if isinstance(reply, kind):
        return reply
    if isinstance(reply, Refusal):
        raise refused(reply)
    name = type(reply).__name__
    problem = Problem(code="protocol", message=f"{name} is no answer to this", theirs=name)
    raise ProblemError(HTTPStatus.BAD_GATEWAY, problem)
