"""What is where, and how long do requests take?"""

from p2p.wire.messages import ControllerMetrics, NamespaceMetrics
from p2p_controller.namespaced import Namespaced
from p2p_controller.state import ControllerState


def metrics(state: ControllerState) -> ControllerMetrics:
    """Returns the sizes of every namespace that has members, and the times of all requests."""
    return ControllerMetrics(
        namespaces=tuple(
            _sizes(namespace_id, group)
            for namespace_id, group in sorted(state.groups.items())
            if group.members
        ),
        requests=state.times.metrics(),
    )


def _sizes(namespace_id: str, group: Namespaced) -> NamespaceMetrics:
    members = group.members.values()
    num_silent = sum(member.is_silent for member in members)
    return NamespaceMetrics(
        namespace=namespace_id,
        model=next(iter(members)).registered.namespace.model,
        num_alive=len(members) - num_silent,
        num_silent=num_silent,
        num_keys=group.directory.num_keys,
        num_entries=sum(member.feed.live.num_entries for member in members),
    )
