"""How is the controller?"""

from p2p import __version__
from p2p.wire.messages import ControllerStatus
from p2p_controller.state import ControllerState


def status(state: ControllerState, now_s: float) -> ControllerStatus:
    """Returns sizes, and everything unusual that was counted since the start."""
    members = state.members.by_id.values()
    return ControllerStatus(
        version=__version__,
        epoch=state.epoch,
        uptime_ms=int(state.uptime_s(now_s) * 1000),
        num_instances=len(members),
        num_namespaces=len({member.namespace_id for member in members}),
        num_keys=sum(group.directory.num_keys for group in state.groups.values()),
        num_entries=sum(member.feed.live.num_entries for member in members),
        partial=state.is_partial(now_s),
        counters={name: number for name, number in sorted(state.counters.items()) if number},
        closing=state.is_shutting_down,
    )
