"""What HTTP answers when it does not answer the question: one shape for all. No I/O."""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from p2p.wire.messages import Refusal, RefusalCode
from p2p_controller.refusals import sentence_of

_MAX_TEXT = 256
_STATUS_BY_CODE = {
    RefusalCode.MALFORMED: HTTPStatus.UNPROCESSABLE_ENTITY,
    RefusalCode.UNKNOWN_INSTANCE: HTTPStatus.NOT_FOUND,
    RefusalCode.NAMESPACE: HTTPStatus.NOT_FOUND,
    RefusalCode.CLOSING: HTTPStatus.SERVICE_UNAVAILABLE,
}


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong.

    Attributes:
        code: the controller's own code of a refusal, or one of HTTP's.
        message: a sentence for people.
        field: what does not fit, or differs.
        ours: what the controller has, or expects.
        theirs: what was sent.
    """

    code: str
    message: str
    field: str = ""
    ours: str = ""
    theirs: str = ""


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every answer with a status of 400 or more."""

    error: Problem


class ProblemError(Exception):
    """Ends a request with a status and a problem.

    Args:
        status: of the answer.
        problem: its body.
        headers: to be sent along.
    """

    def __init__(
        self, status: HTTPStatus, problem: Problem, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(problem.message)
        self.status = status
        self.problem = problem
        self.headers = dict(headers or {})


def bad_value(field: str, value: object, expected: str) -> ProblemError:
    """Returns the problem of a field that does not fit."""
    theirs = repr(value)[:_MAX_TEXT]
    message = f"{field} = {theirs}: {expected}" if field else expected
    problem = Problem(code="bad_value", message=message, field=field, ours=expected, theirs=theirs)
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, problem)


def refused(refusal: Refusal) -> ProblemError:
    """Returns the problem that a refusal of the controller is: 404, 409, 422 or 503."""
    status = _STATUS_BY_CODE.get(refusal.code, HTTPStatus.CONFLICT)
    problem = Problem(
        code=refusal.code.value,
        message=sentence_of(refusal),
        field=refusal.field,
        ours=refusal.ours,
        theirs=refusal.theirs,
    )
    return ProblemError(status, problem)


def silent(reason: str) -> ProblemError:
    """Returns the problem of a controller that does not answer."""
    problem = Problem(code="silent", message=reason)
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, problem, {"Retry-After": "1"})
