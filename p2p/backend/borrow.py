"""The reader's side of its leases at one holder, within one fetch.

The reader's clock for a lease starts before it asks, and it trusts the time to live less 2 % and a
margin, so that a read which ended before `Grant.use_until_s` ended inside the holder's lease,
whatever the two clocks say. No I/O, no clock, no threads.
"""

from dataclasses import dataclass, field

from p2p.backend.actions import SourceTally
from p2p.wire.messages import Holder, LeaseGranted

CLOCK_RATE_TOLERANCE = 0.02
MARGIN_S = 0.005


def usable_until_s(asked_s: float, ttl_ms: int) -> float:
    """Returns the reader's deadline for a lease that it asked for at ``asked_s``."""
    return asked_s + ttl_ms / 1000 * (1 - CLOCK_RATE_TOLERANCE) - MARGIN_S


@dataclass(slots=True)
class Grant:
    """One lease that a holder granted.

    Attributes:
        token: its name.
        asked_s: when it was asked for, or its last acknowledged renewal was sent.
        ttl_ms: what the holder promised.
        remote_by_position: the holder's slot for each chunk of the request.
        roots_by_position: digests of each chunk's shards, by rank.
        generations_by_position: of those slots.
        num_reading: reads under way, or given up and not quiesced.
        renewal_asked_s: when a renewal was sent that has not been answered.
        is_released: the holder was told that we are done.
        is_expired: its time is over.
    """

    token: int
    asked_s: float
    ttl_ms: int
    remote_by_position: dict[int, int]
    roots_by_position: dict[int, tuple[int, ...]]
    generations_by_position: dict[int, int]
    num_reading: int = 0
    renewal_asked_s: float | None = None
    is_released: bool = False
    is_expired: bool = False

    @property
    def use_until_s(self) -> float:
        """A read must have ended before this moment to count."""
        return usable_until_s(self.asked_s, self.ttl_ms)

    @property
    def renew_at_s(self) -> float:
        """Half of the usable time is over."""
        return (self.asked_s + self.use_until_s) / 2

    def is_renewable(self, now_s: float) -> bool:
        """True if reads are under way and half of the time is over."""
        waits = self.renewal_asked_s is not None or self.is_released
        return not waits and self.num_reading > 0 and now_s >= self.renew_at_s


@dataclass(slots=True)
class Borrower:
    """Everything between one fetch and one holder.

    Attributes:
        holder: who lends.
        asked_positions: positions of an unanswered lease request.
        asked_s: when that request was sent.
        grants: leases, oldest first.
        num_reading: reads under way.
        reading_since_s: when the first of them was submitted.
        is_lost: nothing more is to be had from this holder in this fetch.
        reason: why it is lost.
    """

    holder: Holder
    tally: SourceTally
    asked_positions: tuple[int, ...] = ()
    asked_s: float = 0.0
    grants: list[Grant] = field(default_factory=list)
    num_reading: int = 0
    reading_since_s: float = 0.0
    is_lost: bool = False

    def grant_of(self, position: int, now_s: float) -> Grant | None:
        """Returns the lease under which a chunk can be read now."""
        for grant in self.grants:
            covers = position in grant.remote_by_position
            if covers and not grant.is_released and now_s < grant.use_until_s:
                return grant
        return None

    def take(self, positions: tuple[int, ...], asked_s: float, answer: LeaseGranted) -> Grant:
        """Keeps a lease; it covers the leading part of ``positions`` that has slots."""
        covered = positions[: len(answer.slots)]
        grant = Grant(
            token=answer.token,
            asked_s=asked_s,
            ttl_ms=answer.ttl_ms,
            remote_by_position=dict(zip(covered, answer.slots, strict=True)),
            roots_by_position=dict(zip(covered, zip(*answer.roots, strict=True), strict=True)),
            generations_by_position=dict(zip(covered, answer.generations, strict=True)),
        )
        self.grants.append(grant)
        return grant

    def read_started(self, now_s: float) -> None:
        """One more read is under way."""
        if self.num_reading == 0:
            self.reading_since_s = now_s
        self.num_reading += 1

    def read_ended(self, now_s: float) -> None:
        """One read is over, well or not."""
        self.num_reading -= 1
        if self.num_reading == 0:
            self.tally.read_s += now_s - self.reading_since_s
