"""Whom a reader may ask, and what it is told of them: the end of every lookup. No I/O, no clock.

The controller and the mirrors answer with the same code.
"""

from p2p.group import Group, M
from p2p.keys import Chain
from p2p.layout import Layout
from p2p.wire.messages import Holder, HolderRun

Found = tuple[tuple[HolderRun, ...], tuple[Holder, ...]]


def find_holders(
    group: Group[M], chain: Chain, tenant: str, layout: Layout | None, now_s: float
) -> Found:
    """Returns the runs of the longest prefix, each with the best of its holders."""
    found = group.directory.find_runs(chain, tenant, group.readable_mask(layout))
    chosen = group.choose(tuple([run.mask for run in found]), now_s)
    runs = [
        HolderRun(start=start, count=count, holders=indexes, more=more, tiers=tiers)
        for (start, count, _), (indexes, more, tiers) in zip(found, chosen.by_run, strict=True)
    ]
    return tuple(runs), chosen.holders
