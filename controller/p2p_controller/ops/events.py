"""A batch of index changes."""

from p2p.wire.messages import EventKind, Events, FeedStatus, Refusal
from p2p_controller.feed import last_seq_of
from p2p_controller.members import Member
from p2p_controller.ops.batch import MAX_SEQ, refuse_bad_batch
from p2p_controller.state import ControllerState

_EVICT = EventKind.EVICT.value


def events(state: ControllerState, message: Events, now_s: float) -> FeedStatus | Refusal:
    """Applies the batch as a whole, keeps it for later, or ignores it as known."""
    member = state.recognise(message, now_s)
    if not isinstance(member, Member):
        return member
    if not 1 <= message.first_seq <= MAX_SEQ:
        return state.refuse_malformed("first_seq", f"{message.first_seq}, not 1 to {MAX_SEQ}")
    refusal = refuse_bad_batch(state, message)
    if refusal is not None:
        return refusal
    if message.kinds:
        if _EVICT in message.kinds and last_seq_of(message) > member.feed.acked_seq:
            state.evidence.note_batch(member, message, now_s)
        bits = member.feed.live.mask
        member.feed.take_events(message)
        if member.feed.live.mask != bits:  # its first chunk in a tier
            state.groups[member.namespace_id].on_holders_changed()
    return state.status_of(member)
