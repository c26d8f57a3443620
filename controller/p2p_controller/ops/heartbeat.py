"""A sign of life, compared with what the directory says."""

import msgspec

from p2p.wire.messages import FeedStatus, Heartbeat, MemberHeard, Refusal, Want
from p2p_controller.members import Member
from p2p_controller.orders import listed
from p2p_controller.state import ControllerState


def heartbeat(state: ControllerState, message: Heartbeat, now_s: float) -> FeedStatus | Refusal:
    """Notes load and finished orders, and finds what is missing or has drifted."""
    member = state.recognise(message, now_s)
    if not isinstance(member, Member):
        return member
    member.load_bytes = message.load_bytes
    group = state.groups[member.namespace_id]
    member.num_pinned = message.num_pinned
    group.on_heard(member)
    if message.is_leaving != member.is_leaving:
        member.is_leaving = message.is_leaving
        state.on_liveness(member)
    at_ms, view_hash = int(state.uptime_s(now_s) * 1000), member.live.view_hash
    group.log.add(
        MemberHeard(
            number=member.number, load_bytes=message.load_bytes, view_hash=view_hash, at_ms=at_ms
        )
    )
    state.orders.report(member, message.orders_done)
    member.feed.check(message, now_s, state.settings.silent_after_s)
    if member.feed.want() is Want.SNAPSHOT:
        state.turns.take(member, now_s)
    elif not member.feed.is_syncing:
        state.turns.release(member)
    orders = listed(member.orders.values(), now_s)
    return msgspec.structs.replace(state.status_of(member), orders=orders, beat=message.beat)
