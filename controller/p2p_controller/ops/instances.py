"""Which instances are known?"""

from p2p.wire.messages import InstanceList, InstanceView
from p2p_controller.members import Member
from p2p_controller.state import ControllerState


def instances(state: ControllerState, now_s: float) -> InstanceList:
    """Returns every member, silent ones too, in the order of their ids."""
    members = sorted(state.members.by_id.values(), key=lambda member: member.instance)
    return InstanceList(instances=tuple(_view(member, now_s) for member in members))


def _view(member: Member, now_s: float) -> InstanceView:
    registered = member.registered
    return InstanceView(
        instance=registered.instance,
        incarnation=registered.incarnation,
        state=_state_of(member),
        namespace=registered.namespace,
        layout=registered.layout,
        address=registered.address,
        host=registered.host,
        rack=registered.rack,
        world_size=registered.world_size,
        num_chunks=member.feed.live.num_entries,
        load_bytes=member.load_bytes,
        silent_ms=max(0, int((now_s - member.last_seen_s) * 1000)),
        synced=member.feed.is_synced,
        public_key=registered.public_key,
        ranks=registered.ranks,
        num_pinned=member.num_pinned,
    )


def _state_of(member: Member) -> str:
    if member.is_silent:
        return "silent"
    return "leaving" if member.is_leaving else "alive"
