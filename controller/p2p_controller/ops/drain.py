"""Have an instance give what it holds to its peers, before it is taken away."""

from p2p.wire.exchange import Sender
from p2p.wire.messages import Deed, Drain, Drained, GiveAll, Refusal
from p2p_controller.operation import Operation
from p2p_controller.ops.concerned import asked_member
from p2p_controller.state import ControllerState


def drain(state: ControllerState, sender: Sender, message: Drain, now_s: float) -> Refusal | None:
    """Orders the instance to give all it has; the answer comes later.

    Once peers have everything, the instance says by itself that it is leaving.
    """
    member = asked_member(state, "instance", message.instance)
    if isinstance(member, Refusal):
        return member
    operation = Operation(sender, Drained, now_s + message.timeout_ms / 1000)
    state.orders.begin(operation)
    order = GiveAll(id=0, namespace=member.namespace_id)
    state.orders.give(operation, member, order, Deed.GAVE)
    return None
