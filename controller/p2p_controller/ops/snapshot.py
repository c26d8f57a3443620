"""A page of an instance's whole index."""

from p2p.wire.messages import FeedStatus, Refusal, SnapshotPage
from p2p_controller.members import Member
from p2p_controller.ops.batch import MAX_SEQ, refuse_bad_batch
from p2p_controller.state import ControllerState


def snapshot(state: ControllerState, message: SnapshotPage, now_s: float) -> FeedStatus | Refusal:
    """Stages the page; with the last one the snapshot takes the old entries' place."""
    member = state.recognise(message, now_s)
    if not isinstance(member, Member):
        return member
    if message.start_seq > MAX_SEQ:
        return state.refuse_malformed("start_seq", f"{message.start_seq}, not 0 to {MAX_SEQ}")
    refusal = refuse_bad_batch(state, message)
    if refusal is not None:
        return refusal
    bits = member.feed.live.mask
    member.feed.take_page(message, now_s)
    replaced = member.feed.take_replaced()
    if replaced is not None:
        directory = state.groups[member.namespace_id].directory
        state.losses.add(member, directory, replaced)
    if member.feed.live.mask != bits:
        state.groups[member.namespace_id].on_holders_changed()
    if member.feed.is_syncing:
        state.turns.take(member, now_s)
    else:
        state.turns.end(member)
    return state.status_of(member)
