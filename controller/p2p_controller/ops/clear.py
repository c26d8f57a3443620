"""Drop chunks at their holders."""

from p2p.keys import InstanceId, NamespaceId
from p2p.wire.exchange import Sender
from p2p.wire.messages import Clear, Refusal, RefusalCode
from p2p_controller.evidence import GoneKind
from p2p_controller.members import Member
from p2p_controller.state import ControllerState


def clear(state: ControllerState, sender: Sender, message: Clear, now_s: float) -> Refusal | None:
    """Orders the concerned instances to drop what they do not lend; the answer comes later.

    Silent instances get no order: they are reported as missing.
    """
    if message.instance and InstanceId(message.instance) not in state.members.by_id:
        code = RefusalCode.UNKNOWN_INSTANCE
        return Refusal(code=code, field="instance", theirs=message.instance[:256])
    if message.namespace and NamespaceId(message.namespace) not in state.groups:
        code = RefusalCode.NAMESPACE
        return Refusal(code=code, field="namespace", theirs=message.namespace[:256])
    concerned = [m for m in state.members.by_id.values() if _is_concerned(m, message)]
    alive = [member for member in concerned if not member.is_silent]
    silent: list[str] = [member.instance for member in concerned if member.is_silent]
    for member in alive:
        state.evidence.note_gone(member, GoneKind.CLEARED, now_s)
    state.orders.clear(sender, alive, silent, now_s + message.timeout_ms / 1000)
    return None


def _is_concerned(member: Member, message: Clear) -> bool:
    in_namespace = message.namespace in {"", member.namespace_id}
    return in_namespace and message.instance in {"", member.instance}
