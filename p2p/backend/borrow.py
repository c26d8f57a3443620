"""The reader's side of its leases at one holder, within one fetch.

The reader's clock for a lease starts before it asks, and it trusts the time to live less 2 % and a
margin, so that a read which ended before `Grant.use_until_s` ended inside the holder's lease,
whatever the two clocks say. No I/O, no clock, no threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from p2p.backend.actions import ShortReason, SourceTally
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
        use_until_s: a read must have ended before this moment to count.
        renew_at_s: half of the usable time is over.
        remote_by_position: the holder's slot for each chunk of the request.
        roots_by_position: digests of each chunk's shards, by rank.
        generations_by_position: of those slots.
        num_unread: chunks of which no read has ended yet.
        num_reading: reads under way, or given up and not quiesced.
        renewal_asked_s: when a renewal was sent that has not been answered.
        is_released: the holder was told that we are done.
        is_expired: its time is over, or the holder said so.
    """

    token: int
    use_until_s: float
    renew_at_s: float
    remote_by_position: dict[int, int]
    roots_by_position: dict[int, tuple[int, ...]]
    generations_by_position: dict[int, int]
    num_unread: int
    num_reading: int = 0
    renewal_asked_s: float | None = None
    is_released: bool = False
    is_expired: bool = False

    @property
    def is_open(self) -> bool:
        """True while chunks can be read under it."""
        return not self.is_released and not self.is_expired

    def is_renewable(self, now_s: float, patience_s: float) -> bool:
        """True if reads are under way, half of the time is over, and no answer is on its way."""
        asked_s = self.renewal_asked_s
        if asked_s is not None and now_s < asked_s + patience_s:
            return False
        return self.is_open and self.num_reading > 0 and now_s >= self.renew_at_s

    def prolong(self, asked_s: float, ttl_ms: int) -> None:
        """The holder has said at a request of ``asked_s`` how long it lends."""
        self.use_until_s = usable_until_s(asked_s, ttl_ms)
        self.renew_at_s = (asked_s + self.use_until_s) / 2
        self.renewal_asked_s = None

    def lose(self) -> None:
        """The holder lends no more: what is being read under it does not count."""
        self.use_until_s = float("-inf")
        self.is_expired = True


@dataclass(slots=True)
class Borrower:
    """Everything between one fetch and one holder.

    Attributes:
        holder: who lends.
        tally: what it contributed.
        asked_positions: positions of an unanswered lease request.
        asked_s: when that request was sent.
        retry_at_s: it was busy, and is not asked before.
        grants: leases, oldest first.
        num_reading: reads under way.
        heard_s: when a read ended well the last time.
        reading_since_s: when the first of them was submitted.
        is_lost: nothing more is to be had from this holder in this fetch.
        lost_for: why.
        patience_s: it was left once and must answer in this time; None if it has been heard since.
        silent_s: so long it was waited for in vain before it was left.
    """

    holder: Holder
    tally: SourceTally
    asked_positions: tuple[int, ...] = ()
    asked_s: float = 0.0
    retry_at_s: float = 0.0
    grants: list[Grant] = field(default_factory=list)
    num_reading: int = 0
    heard_s: float = float("-inf")
    reading_since_s: float = 0.0
    is_lost: bool = False
    lost_for: ShortReason | None = None
    patience_s: float | None = None
    silent_s: float = 0.0

    def grant_of(self, position: int, now_s: float) -> Grant | None:
        """Returns the lease under which a chunk can be read now."""
        for grant in self.grants:
            if position in grant.remote_by_position and grant.is_open and now_s < grant.use_until_s:
                return grant
        return None

    @property
    def lent_positions(self) -> list[int]:
        """Positions of the chunks under leases that are not over."""
        return [p for grant in self.grants if grant.is_open for p in grant.remote_by_position]

    def take(self, positions: Sequence[int], asked_s: float, answer: LeaseGranted) -> Grant:
        """Keeps a lease of the chunks at ``positions``."""
        use_until_s = usable_until_s(asked_s, answer.ttl_ms)
        grant = Grant(
            token=answer.token,
            use_until_s=use_until_s,
            renew_at_s=(asked_s + use_until_s) / 2,
            remote_by_position=dict(zip(positions, answer.slots, strict=True)),
            roots_by_position=dict(zip(positions, zip(*answer.roots, strict=True), strict=True)),
            generations_by_position=dict(zip(positions, answer.generations, strict=True)),
            num_unread=len(positions),
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
