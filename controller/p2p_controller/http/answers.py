"""Answers as Starlette sends them: structs as JSON, and every failure in one shape."""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from p2p_controller.http.problems import ErrorBody, Problem, ProblemError

JSON = "application/json"


def json_answer(
    answer: msgspec.Struct,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Returns a struct as an answer."""
    return Response(msgspec.json.encode(answer), status, headers, media_type=JSON)


def problem_answer(error: ProblemError) -> Response:
    """Returns a problem as an answer."""
    return json_answer(ErrorBody(error.problem), error.status, error.headers)


async def on_problem(_: Request, error: Exception) -> Response:
    """Answers what this package refuses."""
    if not isinstance(error, ProblemError):
        raise error
    return problem_answer(error)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Answers what Starlette refuses: unknown paths and methods."""
    if not isinstance(error, HTTPException):
        raise error
    status = HTTPStatus(error.status_code)
    code = status.phrase.lower().replace(" ", "_")
    message = f"{request.method} {request.url.path[:200]}: {error.detail}"
    return problem_answer(ProblemError(status, Problem(code=code, message=message), error.headers))


async def on_fault(_: Request, error: Exception) -> Response:
    """Answers what should not happen; Starlette raises it again, and uvicorn logs it."""
    problem = Problem(code="fault", message=f"{type(error).__name__}; the log says more")
    return problem_answer(ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, problem))
