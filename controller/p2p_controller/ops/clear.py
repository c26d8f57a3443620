"""Drop chunks at their holders, pinned ones too."""

from p2p.wire.exchange import Sender
from p2p.wire.messages import Clear, Cleared, Deed, DropAll, DropKeys, Order, Refusal
from p2p_controller.evidence import GoneKind
from p2p_controller.members import Member
from p2p_controller.operation import Operation
from p2p_controller.ops.concerned import asked_group, asked_keys, asked_member
from p2p_controller.state import ControllerState


def clear(state: ControllerState, sender: Sender, message: Clear, now_s: float) -> Refusal | None:
    """Orders the concerned instances to drop chunks; the answer comes later.

    Silent instances get no order: they are reported as silent.
    """
    refusal = _refuse(state, message)
    if refusal is not None:
        return refusal
    operation = Operation(sender, Cleared, now_s + message.timeout_ms / 1000)
    state.orders.begin(operation)
    for member in list(state.members.by_id.values()):
        if _is_concerned(member, message):
            if not message.keys and not member.is_silent:
                state.evidence.note_gone(member, GoneKind.CLEARED, now_s)
            order = _order(message, member)
            state.orders.give(operation, member, order, Deed.DROPPED)
    return None


def _refuse(state: ControllerState, message: Clear) -> Refusal | None:
    if message.instance:
        member = asked_member(state, "instance", message.instance)
        if isinstance(member, Refusal):
            return member
    if message.namespace:
        group = asked_group(state, message.namespace)
        if isinstance(group, Refusal):
            return group
    if not message.keys:
        return _refuse_tenant(state, message)
    if not message.namespace:
        return state.refuse_malformed("namespace", "keys need a namespace")
    keys = asked_keys(state, message)
    return keys if isinstance(keys, Refusal) else None


def _refuse_tenant(state: ControllerState, message: Clear) -> Refusal | None:
    """Without keys everybody's chunks go: who names a tenant means something else."""
    if not message.tenant:
        return None
    return state.refuse_malformed("tenant", f"tenant {message.tenant!r} needs keys")


def _is_concerned(member: Member, message: Clear) -> bool:
    in_namespace = message.namespace in {"", member.namespace_id}
    return in_namespace and message.instance in {"", member.instance}


def _order(message: Clear, member: Member) -> Order:
    if not message.keys:
        return DropAll(id=0, namespace=member.namespace_id)
    return DropKeys(
        id=0,
        namespace=member.namespace_id,
        keys=message.keys,
        key_bytes=message.key_bytes,
        tenant=message.tenant,
    )
