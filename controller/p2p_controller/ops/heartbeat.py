"""A sign of life, compared with what the directory says."""

from p2p.wire.messages import FeedStatus, Heartbeat, MemberHeard, Refusal, Want
from p2p_controller.members import Member
from p2p_controller.state import ControllerState


def heartbeat(state: ControllerState, message: Heartbeat, now_s: float) -> FeedStatus | Refusal:
    """Notes load and finished orders, and finds what is missing or has drifted."""
    member = state.recognise(message, now_s)
    if not isinstance(member, Member):
        return member
    member.load_bytes = message.load_bytes
    group = state.groups[member.namespace_id]
    group.on_heard(member)
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
    return state.status_of(member)
