"""Who holds the longest prefix of these keys?"""

from typing import TYPE_CHECKING

from p2p.errors import ArgumentError
from p2p.holders import find_holders
from p2p.keys import Chain, InstanceId, NamespaceId, check_chain
from p2p.layout import Layout
from p2p.wire.messages import Locate, Located, Refusal
from p2p_controller.ops.ranks import with_counterparts
from p2p_controller.state import ControllerState

if TYPE_CHECKING:
    from p2p.wire.messages import Holder, HolderRun


def locate(state: ControllerState, message: Locate, now_s: float) -> Located | Refusal:
    """Returns the runs of the longest prefix, each with the best of its holders."""
    chain = Chain(message.keys, message.key_bytes)
    try:
        check_chain(chain)
    except ArgumentError as error:
        return state.refuse_malformed(error.name, str(error))
    runs: tuple[HolderRun, ...] = ()
    holders: tuple[Holder, ...] = ()
    group = state.groups.get(NamespaceId(message.namespace))
    if group is not None:
        layout = _layout_of(state, message.instance)
        runs, holders = find_holders(group, chain, message.tenant, layout, now_s)
    if message.rank is not None:
        ranked = with_counterparts(state, message, holders)
        if isinstance(ranked, Refusal):
            return ranked
        holders = ranked
    partial = state.is_partial(now_s)
    return Located(epoch=state.epoch, runs=runs, holders=holders, partial=partial)


def _layout_of(state: ControllerState, instance: str) -> Layout | None:
    member = state.members.by_id.get(InstanceId(instance)) if instance else None
    return None if member is None else member.layout
