"""Who is asked first: members in order of load, then of the time they were heard. No I/O.

Kept in order as heartbeats come in, because sorting hundreds of members after each of their
hundreds of heartbeats a second would take a tenth of a processor.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeAlias, TypeVar

from p2p.keys import InstanceId

_Rank: TypeAlias = tuple[int, float, InstanceId]


class Ranked(Protocol):
    """What a place depends on."""

    load_bytes: int
    last_seen_s: float

    @property
    def instance(self) -> InstanceId:
        """Its id."""
        ...


R = TypeVar("R", bound=Ranked)


class Ranking(Generic[R]):
    """All members of a namespace, best first: least loaded, then heard last, then by id."""

    def __init__(self, members: Iterable[R]) -> None:
        self._members = sorted(members, key=_rank)
        self._ranks = list(map(_rank, self._members))  # in the same order
        self._rank_by_instance = {rank[2]: rank for rank in self._ranks}

    def __iter__(self) -> Iterator[R]:
        return iter(self._members)

    def put(self, member: R) -> None:
        """Gives a member, new or not, the place that its load and last sign of life deserve."""
        before, rank = self._rank_by_instance.get(member.instance), _rank(member)
        if before is not None:
            place = bisect_left(self._ranks, before)
            del self._ranks[place], self._members[place]
        place = bisect_left(self._ranks, rank)
        self._ranks.insert(place, rank)
        self._members.insert(place, member)
        self._rank_by_instance[member.instance] = rank

    def sort(self, members: list[R]) -> list[R]:
        """Returns some of the members in order."""
        return sorted(members, key=lambda member: self._rank_by_instance[member.instance])


def _rank(member: Ranked) -> _Rank:
    return member.load_bytes, -member.last_seen_s, member.instance
