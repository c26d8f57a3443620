"""Have an instance fetch chunks, so that it holds them too."""

from p2p.wire.exchange import Sender
from p2p.wire.messages import Deed, Move, Refusal, Replicate, Replicated, TakeKeys
from p2p_controller.members import Member
from p2p_controller.operation import Operation
from p2p_controller.ops.concerned import asked_group, asked_keys, asked_member_of
from p2p_controller.state import ControllerState


def replicate(
    state: ControllerState, sender: Sender, message: Replicate, now_s: float
) -> Refusal | None:
    """Has the target fetch; the answer comes later."""
    target = asked_target(state, message)
    if isinstance(target, Refusal):
        return target
    operation = Operation(sender, Replicated, now_s + message.timeout_ms / 1000)
    state.orders.begin(operation)
    order_fetch(state, operation, message, target)
    return None


def asked_target(state: ControllerState, message: Replicate | Move) -> Member | Refusal:
    """Returns who is to fetch, if keys and source make sense too."""
    keys = asked_keys(state, message)
    if isinstance(keys, Refusal):
        return keys
    group = asked_group(state, message.namespace)
    if isinstance(group, Refusal):
        return group
    if message.source == message.target:
        return state.refuse_malformed("source", f"{message.source} is the target, too")
    if message.source:
        source = asked_member_of(group, "source", message.source)
        if isinstance(source, Refusal):
            return source
    return asked_member_of(group, "target", message.target)


def order_fetch(
    state: ControllerState,
    operation: Operation,
    message: Replicate | Move,
    target: Member,
    hold_ms: int = 0,
) -> None:
    """Gives the target its order."""
    order = TakeKeys(
        id=0,
        namespace=target.namespace_id,
        keys=message.keys,
        key_bytes=message.key_bytes,
        tenant=message.tenant,
        source=message.source,
        hold_ms=hold_ms,
    )
    state.orders.give(operation, target, order, Deed.TOOK)
