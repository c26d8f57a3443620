"""What machines ask again and again: is it alive, is it ready, what are its numbers?"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from p2p.wire.messages import ControllerMetrics, ControllerStatus, GetMetrics, GetStatus
from p2p_controller.http.answers import json_answer
from p2p_controller.http.asking import Asking, ask_controller
from p2p_controller.http.exposition import Exposition, Scrape
from p2p_controller.http.problems import ProblemError

_PROBE_S = 1.0
Endpoint = Callable[[Request], Awaitable[Response]]


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether answers can be relied on.

    Attributes:
        ready: the directory is complete and the controller is not ending.
        reason: why not.
    """

    ready: bool
    reason: str = ""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The controller's loop answered."""

    epoch: int


def healthz(asking: Asking) -> Endpoint:
    """Returns the endpoint that fails if the ZMQ loop does not answer within a second."""

    async def answer(_: Request) -> Response:
        status = await ask_controller(asking, GetStatus(), ControllerStatus, _PROBE_S)
        return json_answer(Health(epoch=status.epoch))

    return answer


def readyz(asking: Asking) -> Endpoint:
    """Returns the endpoint that fails while answers are partial, or the end is near."""

    async def answer(_: Request) -> Response:
        try:
            status = await ask_controller(asking, GetStatus(), ControllerStatus, _PROBE_S)
        except ProblemError as error:
            reason = f"{error.problem.code}: {error.problem.message}"
        else:
            reason = _reason(status)
        code = HTTPStatus.SERVICE_UNAVAILABLE if reason else HTTPStatus.OK
        return json_answer(Readiness(ready=not reason, reason=reason), code)

    return answer


def metrics(asking: Asking, exposition: Exposition) -> Endpoint:
    """Returns the endpoint for Prometheus; with the controller silent it still answers."""

    async def answer(request: Request) -> Response:
        try:
            status = await ask_controller(asking, GetStatus(), ControllerStatus, _PROBE_S)
            sizes = await ask_controller(asking, GetMetrics(), ControllerMetrics, _PROBE_S)
            exposition.scrape = Scrape(status, sizes)
        except ProblemError:  # seen as p2p_controller_up 0
            exposition.scrape = Scrape()
        text, content_type = exposition.text(request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": content_type})

    return answer


def _reason(status: ControllerStatus) -> str:
    if status.closing:
        return "closing: the controller is about to end"
    return "partial: the directory is still being filled" if status.partial else ""
