"""Whom a reader may ask, and what it is told of them: the end of every lookup. No I/O, no clock.

The controller and the mirrors answer with the same code.
"""

from collections.abc import Sequence

from p2p.directory import Run
from p2p.group import Group, GroupMember, M
from p2p.keys import ChunkKey
from p2p.layout import Layout
from p2p.wire.messages import Holder, HolderRun

MAX_HOLDERS = 8
Found = tuple[tuple[HolderRun, ...], tuple[Holder, ...]]


def find_holders(
    group: Group[M], keys: Sequence[ChunkKey], tenant: str, layout: Layout | None, now_s: float
) -> Found:
    """Returns the runs of the longest prefix, each with the best of its holders."""
    found = group.directory.find_runs(keys, tenant, group.readable_mask(layout))
    return _with_holders(group, found, now_s)


def _with_holders(group: Group[M], found: list[Run], now_s: float) -> Found:
    """Returns runs that point into a list of holders, each of which is listed once."""
    index_by_member: dict[M, int] = {}
    best_by_mask: dict[int, tuple[tuple[int, ...], bytes]] = {}
    runs: list[HolderRun] = []
    for start, count, mask in found:
        indexes, tiers = best_by_mask.get(mask, ((), b""))
        if not indexes:
            best = group.best_holders(mask, MAX_HOLDERS)
            indexes = tuple(index_by_member.setdefault(m, len(index_by_member)) for m in best)
            tiers = bytes(member.live.tier_of(mask) for member in best)
            best_by_mask[mask] = indexes, tiers
        more = mask.bit_count() - len(indexes)
        run = HolderRun(start=start, count=count, holders=indexes, more=more, tiers=tiers)
        runs.append(run)
    return tuple(runs), tuple(holder_of(member, now_s) for member in index_by_member)


def holder_of(member: GroupMember, now_s: float) -> Holder:
    """Returns what a reader needs to know of a member."""
    registered = member.registered
    return Holder(
        instance=registered.instance,
        incarnation=registered.incarnation,
        address=registered.address,
        public_key=registered.public_key,
        host=registered.host,
        rack=registered.rack,
        load_bytes=member.load_bytes,
        age_ms=max(0, int((now_s - member.last_seen_s) * 1000)),
    )
