"""The Starlette application: one route for each row of the table, and what is always there."""

import asyncio
from http import HTTPStatus

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from p2p_controller.http.answers import (
    JSON,
    json_answer,
    on_fault,
    on_http_exception,
    on_problem,
)
from p2p_controller.http.asking import Asking
from p2p_controller.http.door import Door
from p2p_controller.http.exposition import Exposition
from p2p_controller.http.gate import Gate
from p2p_controller.http.openapi import describe
from p2p_controller.http.operations import OPERATIONS, Operation, Verb
from p2p_controller.http.probes import Endpoint, healthz, metrics, readyz
from p2p_controller.http.problems import Problem, ProblemError

MAX_BODY_BYTES = 2 << 20
_BODY_S = 10.0


def make_app(asking: Asking, gate: Gate) -> ASGIApp:
    """Returns the application.

    Args:
        asking: what operations are answered with; belongs to the running loop.
        gate: who may ask what.
    """
    exposition = Exposition()
    routes = [
        *(_route(row, asking, gate) for row in OPERATIONS),
        Route("/healthz", healthz(asking)),
        Route("/readyz", readyz(asking)),
        Route("/metrics", metrics(asking, exposition)),
        Route("/openapi.json", _openapi()),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={
            ProblemError: on_problem,
            HTTPException: on_http_exception,
            Exception: on_fault,
        },
    )
    app.router.redirect_slashes = False
    return Door(app, gate, exposition, frozenset(route.path for route in routes))


def _openapi() -> Endpoint:
    description = msgspec.json.encode(describe(OPERATIONS))

    async def answer(_: Request) -> Response:
        return Response(description, media_type=JSON)

    return answer


def _route(row: Operation, asking: Asking, gate: Gate) -> Route:
    async def answer(request: Request) -> Response:
        gate.check_request(request.headers, is_change=row.is_change)
        if row.verb is Verb.GET:
            question = row.body.from_query(request.query_params.multi_items())
        else:
            question = row.body.from_json(await _body(request))
        return json_answer(await row.answer(asking, question, row.reply))

    return Route(row.path, answer, methods=[row.verb.value])


async def _body(request: Request) -> bytes:
    """Returns the body of a request, if it is JSON and neither too large nor too slow."""
    content = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            async for piece in request.stream():
                content += piece
                if len(content) > MAX_BODY_BYTES:
                    break
    except TimeoutError as error:
        problem = Problem(code="too_slow", message=f"no whole body within {_BODY_S:g} s")
        raise ProblemError(HTTPStatus.REQUEST_TIMEOUT, problem) from error
    if len(content) > MAX_BODY_BYTES:
        message = f"the body has more than {MAX_BODY_BYTES} bytes"
        problem = Problem(code="too_large", message=message, ours=str(MAX_BODY_BYTES))
        raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, problem)
    kind = request.headers.get("content-type", "")
    if content and kind.partition(";")[0].strip().lower() != JSON:
        message = f"the body must be declared as {JSON}"
        problem = Problem(
            code="not_json", message=message, field="Content-Type", ours=JSON, theirs=kind[:80]
        )
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, problem)
    return bytes(content)
