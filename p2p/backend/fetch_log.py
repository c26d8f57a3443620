"""What an instance remembers of its last fetches, to tell the controller why a hit was short.

Two rings, so that many complete fetches do not push out the short ones. A report is made when it is
told: nobody waits for it when a fetch ends. No I/O, no clock, no threads.
"""

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from p2p.backend.actions import FetchOutcome, ShortReason
from p2p.errors import ArgumentError
from p2p.wire.messages import (
    MAX_REPORTS,
    MAX_TROUBLES,
    FetchReport,
    FetchReports,
    Refusal,
    Register,
    Trouble,
)

if TYPE_CHECKING:
    from p2p.backend.fetch_context import FetchContext

MAX_SHORT = 256
MAX_COMPLETE = 64
_MAX_DETAIL = 300
_MAX_ID = 128
_MAX_MS = 86_400_000
_STARTS = 0xFFFFF1  # a prime: starts of one instance get different ids


class Troubles:
    """What went wrong with the holders of one fetch, once for each holder and reason."""

    __slots__ = ("_by_cause",)

    def __init__(self) -> None:
        self._by_cause: dict[tuple[str, ShortReason], tuple[float, str, Refusal | None]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_cause)

    def note(
        self,
        instance: str,
        reason: ShortReason,
        detail: str,
        now_s: float,
        refusal: Refusal | None = None,
    ) -> None:
        """Notes what went wrong; what was said first of the same trouble stays."""
        cause = (instance, reason)
        if cause in self._by_cause:
            _, detail, refusal = self._by_cause[cause]
        elif len(self._by_cause) >= MAX_TROUBLES:
            return
        self._by_cause[cause] = (now_s, detail, refusal)

    def told(self, now_s: float) -> tuple[Trouble, ...]:
        """Returns all of it, with ages."""
        return tuple(
            Trouble(
                instance=instance,
                reason=reason.value,
                age_ms=millis(now_s - at_s),
                detail=detail[:_MAX_DETAIL],
                field=refusal.field if refusal else "",
                ours=refusal.theirs if refusal else "",
                theirs=refusal.ours if refusal else "",
            )
            for (instance, reason), (at_s, detail, refusal) in self._by_cause.items()
        )


class Ended(NamedTuple):
    """What is remembered of a fetch, or of a question where a prompt is.

    Attributes:
        request: its id.
        tenant: who asked.
        num_keys: chunks asked for.
        num_local: leading chunks that were here.
        num_delivered: chunks of the prefix that was delivered (or located).
        reason: why there are not more.
        detail: names and numbers of that.
        missing: key of the first chunk that was not delivered; empty if there is none.
        took_s: how long it took.
        troubles: what went wrong with holders; None for nothing.
    """

    request: str
    tenant: str
    num_keys: int
    num_local: int
    num_delivered: int
    reason: ShortReason
    detail: str
    missing: bytes
    took_s: float
    troubles: Troubles | None = None

    def report(self, number: int, ended_s: float, now_s: float) -> FetchReport:
        """Returns how it is told at ``now_s``."""
        return FetchReport(
            number=number,
            request=self.request,
            tenant=self.tenant,
            num_keys=self.num_keys,
            num_local=self.num_local,
            num_delivered=self.num_delivered,
            reason=self.reason.value,
            detail=self.detail[:_MAX_DETAIL],
            missing=self.missing,
            age_ms=millis(now_s - ended_s),
            took_ms=millis(self.took_s),
            troubles=self.troubles.told(now_s) if self.troubles else (),
        )


class FetchLog:
    """The last fetches of one instance."""

    def __init__(self) -> None:
        self._short: deque[tuple[int, float, Ended]] = deque(maxlen=MAX_SHORT)
        self._complete: deque[tuple[int, float, Ended]] = deque(maxlen=MAX_COMPLETE)
        self._num_ids = 0
        self._number = 0
        self._sent = 0

    def next_id(self, identity: Register) -> str:
        """Returns an id for a request that has none."""
        self._num_ids += 1
        return f"{identity.instance}.{identity.incarnation % _STARTS:x}.{self._num_ids}"[-_MAX_ID:]

    def note(self, ended: Ended, now_s: float) -> None:
        """Keeps what became of a fetch that ended now; its number is given here."""
        self._number += 1
        ring = self._short if ended.missing else self._complete
        ring.append((self._number, now_s, ended))

    def rewind(self) -> None:
        """The controller may be a new one: what is kept is told again, under the same numbers."""
        self._sent = 0

    def messages(self, identity: Register, epoch: int, now_s: float) -> list[FetchReports]:
        """Returns what has not been told; each report once, unless `rewind` is called."""
        if self._sent == self._number:
            return []
        untold = [one for one in (*self._short, *self._complete) if one[0] > self._sent]
        untold.sort(key=lambda one: one[0])
        self._sent = self._number
        reports = [ended.report(number, ended_s, now_s) for number, ended_s, ended in untold]
        return [
            FetchReports(
                instance=identity.instance,
                incarnation=identity.incarnation,
                epoch=epoch,
                reports=tuple(reports[start : start + MAX_REPORTS]),
            )
            for start in range(0, len(reports), MAX_REPORTS)
        ]


def ended_of(context: "FetchContext", outcome: FetchOutcome, now_s: float) -> Ended:
    """Returns what is to be remembered of a fetch."""
    keys, num_delivered = context.keys, len(outcome.entries)
    return Ended(
        outcome.request_id,
        context.tenant,
        len(keys),
        outcome.num_local,
        num_delivered,
        outcome.reason,
        outcome.detail,
        keys[num_delivered] if num_delivered < len(keys) else b"",
        now_s - context.started_s,
        context.troubles,
    )


def check_request_id(request_id: str) -> None:
    """Raises `ArgumentError` for an id that is too long to be reported."""
    if len(request_id) > _MAX_ID:
        raise ArgumentError("request_id", request_id, f"at most {_MAX_ID} characters")


def millis(seconds: float) -> int:
    """Returns a duration as it travels."""
    return min(max(0, int(seconds * 1000)), _MAX_MS)
