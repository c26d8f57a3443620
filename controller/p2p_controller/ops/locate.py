"""Who holds the longest prefix of these keys?"""

from typing import TYPE_CHECKING

from p2p.directory import Run
from p2p.errors import ArgumentError
from p2p.keys import InstanceId, NamespaceId, split_keys
from p2p.layout import Layout
from p2p.wire.messages import Holder, HolderRun, Locate, Located, Refusal
from p2p_controller.group import Group
from p2p_controller.ops.holder import holder_of
from p2p_controller.ops.ranks import with_counterparts
from p2p_controller.state import ControllerState

if TYPE_CHECKING:
    from p2p_controller.members import Member

MAX_HOLDERS = 8


def locate(state: ControllerState, message: Locate, now_s: float) -> Located | Refusal:
    """Returns the runs of the longest prefix, each with the best of its holders."""
    try:
        keys = split_keys(message.keys, message.key_bytes)
    except ArgumentError as error:
        return state.refuse_malformed(error.name, str(error))
    runs: tuple[HolderRun, ...] = ()
    holders: tuple[Holder, ...] = ()
    group = state.groups.get(NamespaceId(message.namespace))
    if group is not None:
        visible = group.readable_mask(_layout_of(state, message.instance))
        found = group.directory.find_runs(keys, message.tenant, visible)
        runs, holders = _with_holders(group, found, now_s)
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


def _with_holders(
    group: Group, found: list[Run], now_s: float
) -> tuple[tuple[HolderRun, ...], tuple[Holder, ...]]:
    """Returns runs that point into a list of holders, each of which is listed once."""
    index_by_member: dict[Member, int] = {}
    best_by_mask: dict[int, tuple[tuple[int, ...], bytes]] = {}
    runs: list[HolderRun] = []
    for start, count, mask in found:
        indexes, tiers = best_by_mask.get(mask, ((), b""))
        if not indexes:
            best = group.best_holders(mask, MAX_HOLDERS)
            indexes = tuple(index_by_member.setdefault(m, len(index_by_member)) for m in best)
            tiers = bytes(member.feed.live.tier_of(mask) for member in best)
            best_by_mask[mask] = indexes, tiers
        more = mask.bit_count() - len(indexes)
        run = HolderRun(start=start, count=count, holders=indexes, more=more, tiers=tiers)
        runs.append(run)
    return tuple(runs), tuple(holder_of(member, now_s) for member in index_by_member)
