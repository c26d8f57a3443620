"""What of a request a holder lends, and how it says so. No I/O, no clock, no threads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from p2p.backend.index import IndexEntry
from p2p.backend.leases import Lease
from p2p.wire.messages import LeaseBusy, LeaseGranted

BUSY_RETRY_MS = 20


@dataclass(frozen=True, slots=True)
class Loan:
    """As much of a request as can be lent.

    Attributes:
        entries: what is here, from the beginning on.
        missing: numbers of the chunks before and between them that are not here.
        is_all: nothing is left that could not be looked at.
        alternates: whom to ask for the rest; if there is none, who else reads the same.
    """

    entries: tuple[IndexEntry, ...]
    missing: tuple[int, ...]
    is_all: bool
    alternates: tuple[str, ...] = ()

    def answer(self, lease: Lease | None, now_s: float) -> LeaseGranted | LeaseBusy:
        """Returns what the reader is told; without a lease, nothing is lent."""
        retry_ms = 0 if self.is_all else BUSY_RETRY_MS
        if lease is None:
            if not self.is_all:
                return LeaseBusy(retry_after_ms=retry_ms, alternates=self.alternates)
            return LeaseGranted(
                token=0, ttl_ms=0, slots=(), generations=(), roots=(), missing=self.missing
            )
        return LeaseGranted(
            token=lease.token,
            ttl_ms=int((lease.deadline_s - now_s) * 1000),
            slots=tuple(entry.slot for entry in self.entries),
            generations=tuple(entry.generation for entry in self.entries),
            roots=tuple(zip(*(entry.roots for entry in self.entries), strict=True)),
            missing=self.missing,
            retry_after_ms=retry_ms,
            alternates=self.alternates,
        )


def as_far_as(
    found: Sequence[IndexEntry | None],
    num_max: int,
    is_end: Callable[[IndexEntry], bool] | None,
) -> tuple[tuple[IndexEntry, ...], tuple[int, ...]]:
    """Returns the first so many entries, and the numbers of the gaps before and between them."""
    if is_end is None and len(found) <= num_max and None not in found:
        return tuple(entry for entry in found if entry is not None), ()
    entries: list[IndexEntry] = []
    missing: list[int] = []
    for number, entry in enumerate(found):
        if entry is None:
            missing.append(number)
        elif len(entries) < num_max and not (is_end and is_end(entry)):
            entries.append(entry)
        else:
            break
    return tuple(entries), tuple(missing)
