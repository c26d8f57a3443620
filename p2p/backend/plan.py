"""Which holder serves which run: a pure choice from what is known before the first lease.

Holders of a run are put in order (nearest, least busy, then by a hash that differs from reader to
reader, so that readers spread). A long run is read from several of them at once; the others are
its alternates. No I/O, no clock, no threads.
"""

from collections.abc import Callable
from dataclasses import dataclass

import xxhash

from p2p.wire.messages import Holder, Located


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """How far a run is spread.

    Attributes:
        stripe_bytes: a run is split over one more holder for each so many bytes.
        max_stripes: never over more holders than this.
    """

    stripe_bytes: int = 16 << 20
    max_stripes: int = 4


@dataclass(frozen=True, slots=True)
class Place:
    """Where an instance stands: hosts and racks with equal names are near each other."""

    instance: str
    host: str
    rack: str


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """Consecutive chunks with the same holders.

    Attributes:
        start: position of the first chunk in the request.
        count: number of chunks.
        holders: best first.
        width: so many of them serve at the same time.
    """

    start: int
    count: int
    holders: tuple[Holder, ...]
    width: int


def plan_runs(
    located: Located,
    offset: int,
    reader: Place,
    chunk_bytes: int,
    is_usable: Callable[[Holder], bool],
    limits: PlanLimits,
) -> list[PlannedRun]:
    """Returns the runs of a directory answer with their holders in order.

    Args:
        located: the answer; its positions count from ``offset``.
        offset: position of the first asked chunk in the request.
        reader: who reads; never planned as its own holder.
        chunk_bytes: of one chunk over all ranks.
        is_usable: false for holders that must not be asked now.
        limits: how far to spread.
    """
    runs: list[PlannedRun] = []
    for run in located.runs:
        known = len(located.holders)
        holders = [located.holders[number] for number in run.holders if 0 <= number < known]
        usable = [h for h in holders if h.instance != reader.instance and is_usable(h)]
        ordered = tuple(sorted(usable, key=lambda holder: _rank(holder, reader)))
        wanted = max(1, run.count * chunk_bytes // limits.stripe_bytes)
        width = min(wanted, limits.max_stripes, len(ordered), run.count)
        runs.append(PlannedRun(offset + run.start, run.count, ordered, width))
    return runs


def _rank(holder: Holder, reader: Place) -> tuple[int, int, int]:
    spread = xxhash.xxh3_64_intdigest(f"{reader.instance}\0{holder.instance}".encode())
    return holder.distance_to(reader.host, reader.rack), holder.load_bytes, spread
