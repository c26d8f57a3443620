"""Leases that this instance has granted: which chunks must not change until when.

The deadline counts from the grant on the clock that the caller passes in (CLOCK_BOOTTIME). Tokens
grow, so a late user is told apart. The table names chunks by index entry and never pins or unpins
itself: it returns the leases that ended. No I/O, no clock, no threads.
"""

from dataclasses import dataclass

from p2p.backend.index import IndexEntry
from p2p.wire.messages import LeaseToken, LeaseView


@dataclass(frozen=True, slots=True)
class Reader:
    """Who borrows: an instance at one of its starts."""

    instance: str
    incarnation: int


@dataclass(slots=True)
class Lease:
    """One grant."""

    token: LeaseToken
    reader: Reader
    entries: tuple[IndexEntry, ...]
    num_bytes: int
    deadline_s: float
    granted_s: float = 0.0

    def view(self, now_s: float) -> LeaseView:
        """Returns what an operator is shown."""
        return LeaseView(
            reader=self.reader.instance,
            incarnation=self.reader.incarnation,
            token=self.token,
            num_chunks=len(self.entries),
            num_bytes=self.num_bytes,
            left_ms=max(0, int((self.deadline_s - now_s) * 1000)),
        )


@dataclass(frozen=True, slots=True)
class LeaseLimits:
    """How much one reader may borrow, and for how long.

    Attributes:
        ttl_s: longest life of a lease without renewal.
        num_per_reader: leases at a time.
        bytes_per_reader: bytes at a time.
    """

    ttl_s: float = 10.0
    num_per_reader: int = 64
    bytes_per_reader: int = 1 << 40


class LeaseTable:
    """All leases of one holder.

    Args:
        limits: what a reader may borrow.
        first_token: tokens grow from here.
    """

    def __init__(self, limits: LeaseLimits, first_token: int = 1) -> None:
        self.limits = limits
        self._next_token = first_token
        self._leases: dict[LeaseToken, Lease] = {}

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def num_bytes(self) -> int:
        """Bytes lent at this moment; a chunk lent twice counts twice."""
        return sum(lease.num_bytes for lease in self._leases.values())

    def get(self, token: int) -> Lease | None:
        """Returns a lease by its token."""
        return self._leases.get(LeaseToken(token))

    def all(self) -> list[Lease]:
        """Returns every lease, oldest first."""
        return list(self._leases.values())

    def has(self, reader: Reader) -> bool:
        """Returns whether something is lent to a reader."""
        return any(lease.reader == reader for lease in self._leases.values())

    def room(self, reader: Reader) -> int:
        """Returns how many bytes the reader may borrow with one more lease."""
        held = [lease for lease in self._leases.values() if lease.reader == reader]
        if len(held) >= self.limits.num_per_reader:
            return 0
        return self.limits.bytes_per_reader - sum(lease.num_bytes for lease in held)

    def grant(
        self,
        reader: Reader,
        entries: tuple[IndexEntry, ...],
        num_bytes: int,
        ttl_s: float,
        now_s: float,
    ) -> Lease:
        """Returns a new lease over the entries, which the caller has pinned."""
        token = LeaseToken(self._next_token)
        self._next_token += 1
        ttl_s = min(ttl_s, self.limits.ttl_s)
        lease = Lease(token, reader, entries, num_bytes, now_s + ttl_s, now_s)
        self._leases[token] = lease
        return lease

    def renew(self, reader: Reader, token: int, ttl_s: float, now_s: float) -> float | None:
        """Extends a lease and returns its new time to live; None if it is over."""
        lease = self._leases.get(LeaseToken(token))
        if lease is None or lease.reader != reader or lease.deadline_s <= now_s:
            return None
        ttl_s = min(ttl_s, self.limits.ttl_s)
        lease.deadline_s = max(lease.deadline_s, now_s + ttl_s)
        return ttl_s

    def release(self, reader: Reader, token: int) -> Lease | None:
        """Ends a lease early; None if it is not this reader's or over already."""
        lease = self._leases.get(LeaseToken(token))
        if lease is None or lease.reader != reader:
            return None
        return self._leases.pop(lease.token)

    def expire(self, now_s: float) -> list[Lease]:
        """Ends and returns every lease whose time is over."""
        return self._end([lease for lease in self._leases.values() if lease.deadline_s <= now_s])

    def fence(self, reader: Reader) -> list[Lease]:
        """Ends and returns every lease of earlier starts of the reader's instance."""
        return self._end(
            [
                lease
                for lease in self._leases.values()
                if lease.reader.instance == reader.instance
                and lease.reader.incarnation < reader.incarnation
            ]
        )

    def next_deadline_s(self) -> float | None:
        """Returns when the next lease ends by itself."""
        return min((lease.deadline_s for lease in self._leases.values()), default=None)

    def _end(self, leases: list[Lease]) -> list[Lease]:
        for lease in leases:
            del self._leases[lease.token]
        return leases
