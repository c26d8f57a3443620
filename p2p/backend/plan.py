"""Which holder serves which run, and whether reading beats computing: a pure choice.

Holders of a run are put in order of the time that they would need (their measured bandwidth, what
is under way from them, what they lend already, how often they were busy), and among equals by a
hash that differs from reader to reader, so that readers spread. A long run is read from several of
them at once where that is faster; the others are its alternates. No I/O, no clock, no threads.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import xxhash

from p2p.backend.speeds import Standing
from p2p.wire.messages import Holder, Located

_GUESSED_RATES = (8e9, 4e9, 2e9)  # bytes/s of the same host, the same rack, elsewhere
_WORTH_ADDING = 0.1  # of the bandwidth that a run has without one more holder
_OVERHEAD_S = 0.001  # of asking, per run


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
        num_others: instances that hold it, usable or not, without the reader.
    """

    start: int
    count: int
    holders: tuple[Holder, ...]
    width: int
    num_others: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """What a reader knows when it plans.

    Attributes:
        reader: who reads; never planned as its own holder.
        chunk_bytes: of one chunk over all ranks.
        is_usable: false for holders that must not be asked now.
        standing: of the way to a holder.
    """

    reader: Place
    chunk_bytes: int
    is_usable: Callable[[Holder], bool]
    standing: Callable[[str], Standing]


def plan_runs(located: Located, offset: int, view: View, limits: PlanLimits) -> list[PlannedRun]:
    """Returns the runs of a directory answer with their holders in order.

    Args:
        located: the answer; its positions count from ``offset``.
        offset: position of the first asked chunk in the request.
        view: what the reader knows.
        limits: how far to spread.
    """
    runs: list[PlannedRun] = []
    for run in located.runs:
        known = len(located.holders)
        holders = [located.holders[number] for number in run.holders if 0 <= number < known]
        others = [holder for holder in holders if holder.instance != view.reader.instance]
        usable = [holder for holder in others if view.is_usable(holder)]
        num_bytes = run.count * view.chunk_bytes
        ordered = sorted(usable, key=lambda holder: _rank(holder, view, num_bytes))
        wanted = max(1, num_bytes // limits.stripe_bytes)
        most = min(wanted, limits.max_stripes, run.count)
        width = min(_useful_width(ordered, view), most)
        num_others = len(others) + run.more
        runs.append(PlannedRun(offset + run.start, run.count, tuple(ordered), width, num_others))
    return runs


def pull_s(runs: Sequence[PlannedRun], view: View) -> float | None:
    """Returns how long the planned reads take by what was measured.

    None if that is unknown: a holder that serves has not been measured lately.
    """
    seconds = 0.0
    for run in runs:
        serving = [view.standing(holder.instance) for holder in run.holders[: run.width]]
        rates = [one.bytes_per_s for one in serving if one.bytes_per_s is not None]
        if len(rates) < len(serving):
            return None
        if not rates:
            break
        ahead = min(one.in_flight for one in serving)
        seconds += _OVERHEAD_S + (ahead + run.count * view.chunk_bytes) / sum(rates)
    return seconds


def spread(reader: str, holder: str) -> int:
    """Returns a number by which readers put equal holders into different orders."""
    return xxhash.xxh3_64_intdigest(f"{reader}\0{holder}".encode())


def _useful_width(ordered: Sequence[Holder], view: View) -> int:
    """Returns how many of the best holders are faster together than fewer of them.

    What is on the reader's own host shares one memory: a second one there adds nothing.
    """
    total, width, has_near = 0.0, 0, False
    for holder in ordered:
        rate = _rate(holder, view)
        is_near = holder.distance_to(view.reader.host, view.reader.rack) == 0
        if rate < _WORTH_ADDING * total or (is_near and has_near):
            break
        total += rate
        width += 1
        has_near = has_near or is_near
    return width


def _rank(holder: Holder, view: View, num_bytes: int) -> tuple[int, int, int, int]:
    """Holders whose time differs by less than a factor of about two are equals."""
    standing = view.standing(holder.instance)
    waiting = num_bytes + standing.in_flight + holder.load_bytes
    seconds = waiting * (1 + standing.refusals) / _rate(holder, view)
    distance = holder.distance_to(view.reader.host, view.reader.rack)
    return (
        round(math.log2(seconds)),
        distance,
        holder.load_bytes,
        spread(view.reader.instance, holder.instance),
    )


def _rate(holder: Holder, view: View) -> float:
    measured = view.standing(holder.instance).bytes_per_s
    if measured is not None:
        return measured
    return _GUESSED_RATES[holder.distance_to(view.reader.host, view.reader.rack)]
