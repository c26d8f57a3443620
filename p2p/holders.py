"""Whom a reader may ask, and what it is told of them: the end of every lookup. No I/O, no clock.

The controller and the mirrors answer with the same code.
"""

from collections.abc import Sequence

from p2p.group import Choice, Choices, Group, GroupMember, M
from p2p.keys import ChunkKey
from p2p.layout import Layout
from p2p.wire.messages import Holder, HolderRun

MAX_HOLDERS = 8
AGE_STEP_S = 0.05
_MAX_CHOICES = 4096
Found = tuple[tuple[HolderRun, ...], tuple[Holder, ...]]


def find_holders(
    group: Group[M], keys: Sequence[ChunkKey], tenant: str, layout: Layout | None, now_s: float
) -> Found:
    """Returns the runs of the longest prefix, each with the best of its holders."""
    if not keys:
        return (), ()
    found = group.directory.find_runs(keys, tenant, group.readable_mask(layout))
    chosen = choose(group, tuple([run.mask for run in found]), now_s)
    runs = [
        HolderRun(start=start, count=count, holders=indexes, more=more, tiers=tiers)
        for (start, count, _), (indexes, more, tiers) in zip(found, chosen.by_run, strict=True)
    ]
    return tuple(runs), chosen.holders


def choose(group: Group[M], masks: tuple[int, ...], now_s: float) -> Choices:
    """Returns the best holders behind the bit sets of an answer's runs.

    What was chosen is kept until a member reports, comes or goes, and for `AGE_STEP_S` at most,
    because answers say how long ago a holder was heard.
    """
    if now_s >= group.choices_until_s or len(group.choices) > _MAX_CHOICES:
        group.choices.clear()
        group.choices_until_s = now_s + AGE_STEP_S
    choices = group.choices.get(masks)
    if choices is None:
        choices = group.choices[masks] = _choose(group, masks, now_s)
    return choices


def _choose(group: Group[M], masks: tuple[int, ...], now_s: float) -> Choices:
    index_by_member: dict[M, int] = {}
    by_run: list[Choice] = []
    for mask in masks:
        best = group.best_holders(mask, MAX_HOLDERS)
        indexes = tuple(index_by_member.setdefault(m, len(index_by_member)) for m in best)
        tiers = bytes(member.live.tier_of(mask) for member in best)
        by_run.append(Choice(indexes, mask.bit_count() - len(best), tiers))
    return Choices(by_run, tuple(holder_of(member, now_s) for member in index_by_member))


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
