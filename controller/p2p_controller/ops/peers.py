"""Who else is in the namespace of this instance?"""

from p2p.group import holder_of
from p2p.keys import InstanceId
from p2p.wire.messages import ListPeers, PeerList, Refusal, RefusalCode
from p2p_controller.state import ControllerState

MAX_PEERS = 512


def peers(state: ControllerState, message: ListPeers, now_s: float) -> PeerList | Refusal:
    """Returns the members of the asker's namespace that are heard, nearest first."""
    member = state.members.by_id.get(InstanceId(message.instance))
    if member is None or member.incarnation != message.incarnation:
        return Refusal(code=RefusalCode.UNKNOWN_INSTANCE, field="instance")
    group = state.groups[member.namespace_id]
    host, rack = member.registered.host, member.registered.rack
    alive = [holder_of(m, now_s) for m in group.members.values() if not m.is_silent]
    alive.sort(key=lambda holder: (holder.distance_to(host, rack), holder.instance))
    return PeerList(
        epoch=state.epoch,
        version=group.version,
        peers=tuple(alive[:MAX_PEERS]),
    )
