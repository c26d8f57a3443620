"""What every request passes: it is counted and timed, and turned away where that is due."""

import time
from http import HTTPStatus

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from p2p_controller.http.answers import problem_answer
from p2p_controller.http.exposition import Exposition
from p2p_controller.http.gate import Gate
from p2p_controller.http.problems import Problem, ProblemError

MAX_AT_ONCE = 64


class Door:
    """Stands before an application.

    Args:
        app: what is behind it.
        gate: knows the right names.
        exposition: where requests are counted.
        paths: that exist; all others are counted as one.
    """

    def __init__(
        self, app: ASGIApp, gate: Gate, exposition: Exposition, paths: frozenset[str]
    ) -> None:
        self._app = app
        self._gate = gate
        self._exposition = exposition
        self._paths = paths
        self._num_inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        start_s = time.perf_counter()
        code = HTTPStatus.INTERNAL_SERVER_ERROR.value

        async def send_noting(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        self._num_inside += 1
        try:
            await self._choose(scope)(scope, receive, send_noting)
        finally:
            self._num_inside -= 1
            path = scope["path"] if scope["path"] in self._paths else "other"
            name = path.rpartition("/")[2]
            self._exposition.note(name, code, time.perf_counter() - start_s)

    def _choose(self, scope: Scope) -> ASGIApp:
        if self._num_inside > MAX_AT_ONCE:
            problem = Problem(code="busy", message=f"{MAX_AT_ONCE} requests are under way")
            status = HTTPStatus.SERVICE_UNAVAILABLE
            return problem_answer(ProblemError(status, problem, {"Retry-After": "1"}))
        try:
            self._gate.check_host(Request(scope).headers)
        except ProblemError as error:
            return problem_answer(error)
        return self._app
