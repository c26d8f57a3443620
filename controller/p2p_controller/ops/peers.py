"""Who else is in the namespace of this instance?"""

from p2p.keys import InstanceId
from p2p.wire.messages import ListPeers, PeerList, Refusal, RefusalCode
from p2p_controller.members import Member
from p2p_controller.ops.holder import holder_of
from p2p_controller.state import ControllerState

MAX_PEERS = 512


def peers(state: ControllerState, message: ListPeers, now_s: float) -> PeerList | Refusal:
    """Returns the members of the asker's namespace that are heard, nearest first."""
    member = state.members.by_id.get(InstanceId(message.instance))
    if member is None or member.incarnation != message.incarnation:
        return Refusal(code=RefusalCode.UNKNOWN_INSTANCE, field="instance")
    group = state.groups[member.namespace_id]
    alive = [other for other in group.members.values() if not other.is_silent]
    alive.sort(key=lambda other: (_distance(member, other), other.instance))
    return PeerList(
        epoch=state.epoch,
        version=group.version,
        peers=tuple(holder_of(other, now_s) for other in alive[:MAX_PEERS]),
    )


def _distance(asker: Member, other: Member) -> int:
    ours, theirs = asker.registered, other.registered
    if ours.host and ours.host == theirs.host:
        return 0
    return 1 if ours.rack and ours.rack == theirs.rack else 2
