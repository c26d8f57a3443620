"""Why is not all of a prompt to be had, or why was a request short?"""

from collections.abc import Iterator, Sequence

import msgspec

from p2p.errors import ArgumentError
from p2p.keys import ChunkKey, InstanceId, NamespaceId, join_keys, split_keys
from p2p.wire.messages import (
    MAX_FINDINGS,
    Explain,
    Explained,
    Finding,
    Refusal,
    RefusalCode,
    RequestView,
    Why,
)
from p2p_controller.inquiry import Inquiry, Question
from p2p_controller.state import ControllerState

_MAX_REQUESTS = 8
_WHYS = {why.value: why for why in Why} | {"evicted_at_holder": Why.EVICTED_AT_HOLDER}


def explain(state: ControllerState, message: Explain, now_s: float) -> Explained | Refusal:
    """Returns what is recorded about the chunks that are missing, now and when it was reported."""
    try:
        keys = split_keys(message.keys, message.key_bytes)
    except ArgumentError as error:
        return state.refuse_malformed(error.name, str(error))
    requests = state.evidence.requests_of(message.request, now_s) if message.request else []
    if message.request and not requests and not keys:
        return _unknown_request(state, message, now_s)
    filled = _filled(state, message, requests)
    if not filled.namespace or not _is_known(state, message.instance):
        return _refuse(message)
    if message.request and not keys:
        return _of_request(state, filled, requests, now_s)
    namespace_id = NamespaceId(filled.namespace)
    num_held, findings = _look(state, filled, keys, 0, now_s)
    if not requests:
        requests = state.evidence.requests_for(namespace_id, set(keys), now_s, _MAX_REQUESTS)
    position_by_key = {key: position for position, key in enumerate(keys)}
    reported = [
        one
        for view in requests
        for one in _of_report(view, position_by_key.get(ChunkKey(view.report.missing)))
    ]
    answer = Explained(num_keys=len(keys), num_held=num_held, requests=tuple(requests))
    return _completed(state, answer, [*reported, *findings], now_s)


def _is_known(state: ControllerState, asker: str) -> bool:
    """Returns whether the asker's layout, if one is named, can decide who can be read."""
    return not asker or InstanceId(asker) in state.members.by_id


def _refuse(message: Explain) -> Refusal:
    if message.instance:
        code = RefusalCode.UNKNOWN_INSTANCE
        return Refusal(code=code, field="instance", theirs=message.instance)
    return Refusal(code=RefusalCode.NAMESPACE, field="namespace")


def _of_request(
    state: ControllerState, message: Explain, requests: Sequence[RequestView], now_s: float
) -> Explained:
    """Explains a request by its newest report, and by what is known of its first missing chunk."""
    report = requests[0].report
    findings = [one for view in requests for one in _of_report(view, view.report.num_delivered)]
    num_held = report.num_delivered
    if report.missing:
        keys = [ChunkKey(report.missing)]
        found_held, found = _look(state, message, keys, report.num_delivered, now_s)
        findings += found
        num_held += found_held
    answer = Explained(
        num_keys=report.num_keys,
        num_held=num_held,
        first=report.num_delivered,
        requests=tuple(requests[:_MAX_REQUESTS]),
    )
    return _completed(state, answer, findings, now_s)


def _look(
    state: ControllerState, message: Explain, keys: Sequence[ChunkKey], first: int, now_s: float
) -> tuple[int, list[Finding]]:
    """Returns how many leading chunks are held, and what is known of the others."""
    namespace_id = NamespaceId(message.namespace)
    member = state.members.by_id.get(InstanceId(message.instance))
    layout = None if member is None else member.layout
    num_held = 0
    group = state.groups.get(namespace_id)
    if group is not None:
        chain, readable = join_keys(keys), group.readable_mask(layout)
        runs = group.directory.find_runs(chain, message.tenant, readable)
        num_held = sum(run.num_chunks for run in runs)
    question = Question(namespace_id, message.tenant, layout, first + num_held, keys[num_held:])
    return num_held, Inquiry(state, question, now_s).findings()


def _of_report(view: RequestView, position: int | None) -> Iterator[Finding]:
    """Yields what an instance reported of a fetch that was short, holder by holder."""
    report = view.report
    if not report.missing or position is None:
        return
    rest = max(1, report.num_keys - report.num_delivered)
    found = Finding(position=position, count=rest, why=Why.UNKNOWN, request=report.request)
    for trouble in report.troubles:
        yield msgspec.structs.replace(
            found,
            why=_WHYS.get(trouble.reason, Why.UNKNOWN),
            instance=trouble.instance,
            field=trouble.field,
            ours=trouble.ours,
            theirs=trouble.theirs,
            age_ms=trouble.age_ms,
            detail=trouble.detail,
        )
    if all(trouble.reason != report.reason for trouble in report.troubles):
        yield msgspec.structs.replace(
            found,
            why=_WHYS.get(report.reason, Why.UNKNOWN),
            instance=view.instance,
            age_ms=report.age_ms,
            detail=report.detail,
        )


def _filled(state: ControllerState, message: Explain, requests: Sequence[RequestView]) -> Explain:
    """Returns the question with what it leaves open taken from the request or the instance."""
    if requests:
        newest = requests[0]
        message = msgspec.structs.replace(
            message,
            namespace=message.namespace or newest.namespace,
            instance=message.instance or newest.instance,
            tenant=message.tenant or newest.report.tenant,
        )
    member = state.members.by_id.get(InstanceId(message.instance))
    if message.namespace or member is None:
        return message
    return msgspec.structs.replace(message, namespace=member.namespace_id)


def _unknown_request(state: ControllerState, message: Explain, now_s: float) -> Explained:
    detail = "no instance has reported this request, or it is too long ago"
    found = Finding(position=0, count=0, why=Why.UNKNOWN, detail=detail, request=message.request)
    return _completed(state, Explained(num_keys=0, num_held=0), [found], now_s)


def _completed(
    state: ControllerState, answer: Explained, findings: Sequence[Finding], now_s: float
) -> Explained:
    ordered = sorted(findings, key=lambda one: one.position)
    since_s = state.evidence.evictions_since_s
    back_s = state.uptime_s(now_s) if since_s is None else now_s - since_s
    return msgspec.structs.replace(
        answer,
        findings=tuple(ordered[:MAX_FINDINGS]),
        more=max(0, len(ordered) - MAX_FINDINGS),
        evidence_ms=int(back_s * 1000),
        partial=state.is_partial(now_s),
    )
