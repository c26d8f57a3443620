"""Findings in plain words."""

from collections.abc import Sequence

from p2p.wire.messages import Explained, Finding, Why

_PHRASES = {
    Why.NO_HOLDER: "is held by nobody",
    Why.DIRECTORY_PARTIAL: "may be held by an instance that the directory does not know yet",
    Why.NAMESPACE_DIFFERS: "cannot come from {who}: {field} is {theirs!r} there, {ours!r} here",
    Why.LAYOUT_DIFFERS: "is held by {who}, which cannot be read: {field} is {theirs}, not {ours}",
    Why.OTHER_TENANT: "is held by {who} for another tenant only ({theirs!r})",
    Why.EVICTED: "was evicted by {who} {when}",
    Why.HOLDER_SILENT: "is held by {who}, which was last heard {when}",
    Why.HOLDER_GONE: "may have been held by {who}, which {detail} {when}",
    Why.CONTROLLER_SILENT: "could not be looked up {when}: the controller did not answer {who}",
    Why.PEER_SILENT: "was not delivered by {who} {when}: it did not answer",
    Why.PEER_REFUSED: "was refused by {who} {when}",
    Why.PEER_BUSY: "was not lent by {who} {when}: it was busy",
    Why.LINK_FAILED: "could not be read from {who} {when}: no link",
    Why.LINK_SLOW: "could not be read from {who} {when}: {detail}",
    Why.EVICTED_AT_HOLDER: "was not at {who} any more {when}",
    Why.LEASE_LOST: "was read too late from {who} {when}: the lease was over",
    Why.READ_FAILED: "could not be read from {who} {when}",
    Why.READ_STALLED: "did not arrive from {who} {when}",
    Why.DIGEST_MISMATCH: "arrived damaged from {who} {when}",
    Why.POOL_FULL: "had no room in the pool of {who} {when}",
    Why.RECOMPUTE_CHOSEN: "was left to {who} to compute {when}",
    Why.BUDGET_SPENT: "did not reach {who} within its budget {when}",
    Why.CLOSED: "was wanted by {who} {when}, which was closing",
}
_REPORTED = {
    Why.NO_HOLDER: "was held by nobody {when}, when {who} asked",
    Why.DIRECTORY_PARTIAL: "was not in the directory {when}, which was being filled",
}
_NEAREST = list(_PHRASES)
_RECORDED_FIRST = (
    Why.DIGEST_MISMATCH,
    Why.PEER_REFUSED,
    Why.PEER_BUSY,
    Why.PEER_SILENT,
    Why.LINK_FAILED,
    Why.LINK_SLOW,
    Why.READ_FAILED,
    Why.READ_STALLED,
    Why.LEASE_LOST,
    Why.POOL_FULL,
    Why.RECOMPUTE_CHOSEN,
    Why.BUDGET_SPENT,
)
_DIRECT_FIRST = (
    Why.LAYOUT_DIFFERS,
    Why.HOLDER_SILENT,
    Why.EVICTED,
    Why.OTHER_TENANT,
    Why.NAMESPACE_DIFFERS,
    Why.DIRECTORY_PARTIAL,
    Why.HOLDER_GONE,
)


def ago(age_ms: int | None) -> str:
    """Returns how long ago something was."""
    if age_ms is None:
        return "now"
    seconds = age_ms / 1000
    if seconds < 120:
        return f"{seconds:.1f} s ago" if seconds < 10 else f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.0f} h ago"


def is_explained(answer: Explained) -> bool:
    """Returns whether nothing is missing, or a reason for it is recorded."""
    if answer.num_keys and answer.num_held == answer.num_keys and not answer.findings:
        return True
    silent = {Why.UNKNOWN, Why.HELD_BEHIND_GAP}
    return any(one.why not in silent for one in answer.findings) or _is_complete(answer)


def summary(answer: Explained, request: str = "") -> str:
    """Returns the answer in one line.

    Args:
        answer: of the controller.
        request: the id that was asked for; empty if keys were.
    """
    if answer.num_keys == 0:
        return answer.findings[0].detail if answer.findings else "no chunk was asked for"
    verb, number = "are held", answer.num_held
    if request and answer.requests:
        verb, number = "were delivered", answer.requests[0].report.num_delivered
    start = f"{number} of {answer.num_keys} chunks {verb}"
    position = _telling_position(answer)
    if position is None:
        return start
    cause = _cause(answer, position, request)
    if cause is None:
        return f"{start}; why chunk {position} is missing is not known"
    text = f"{start}; chunk {position} {_phrase(cause)}"
    now = [one for one in answer.findings if not one.request and one.position == position]
    if cause.why is Why.EVICTED and len({one.instance for one in now}) == 1:
        text += ", nobody else holds it"
    return text


def _is_complete(answer: Explained) -> bool:
    is_held = answer.num_keys > 0 and answer.num_held == answer.num_keys
    return is_held or any(not view.report.missing for view in answer.requests)


def _telling_position(answer: Explained) -> int | None:
    """Returns the chunk to speak of: the first missing one, or where a fetch ended."""
    causes = [one for one in answer.findings if one.why is not Why.HELD_BEHIND_GAP]
    return min((one.position for one in causes), default=None)


def _cause(answer: Explained, position: int, request: str) -> Finding | None:
    """Returns the nearest cause: of a request what was reported, of a prompt what is so now."""
    here = [one for one in answer.findings if one.position == position]
    reported = _first([one for one in here if one.request], _RECORDED_FIRST)
    direct = _first([one for one in here if not one.request], _DIRECT_FIRST)
    nearest = reported or direct if request else direct or reported
    return nearest or _first(here, _NEAREST)


def _first(findings: Sequence[Finding], order: Sequence[Why]) -> Finding | None:
    ranked = [one for one in findings if one.why in order]
    return min(ranked, key=lambda one: order.index(one.why), default=None)


def _phrase(one: Finding) -> str:
    phrase = _REPORTED.get(one.why) if one.request else None
    return (phrase or _PHRASES[one.why]).format(
        who=one.instance or "an instance",
        when=ago(one.age_ms),
        field=one.field,
        ours=one.ours,
        theirs=one.theirs,
        detail=one.detail,
    )
