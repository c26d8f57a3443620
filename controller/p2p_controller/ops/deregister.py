"""An instance leaves."""

from p2p.keys import InstanceId
from p2p.wire.messages import Deregister, Done, Refusal
from p2p_controller.evidence import GoneKind
from p2p_controller.state import ControllerState


def deregister(state: ControllerState, message: Deregister, now_s: float) -> Done | Refusal:
    """Removes the instance with its entries; who is gone already is told the same."""
    member = state.members.by_id.get(InstanceId(message.instance))
    if member is None:
        return Done()
    if message.incarnation < member.incarnation:
        return state.refuse_stale(member.incarnation, message.incarnation)
    state.orders.on_gone(member)
    state.evidence.note_gone(member, GoneKind.LEFT, now_s)
    state.remove(member)
    return Done()
