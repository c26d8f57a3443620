"""What an instance remembers of its last fetches, to tell the controller why a hit was short.

Two rings, so that many complete fetches do not push out the short ones. No I/O, no clock, no
threads.
"""

from collections import deque
from typing import TYPE_CHECKING

import msgspec

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


class FetchLog:
    """The last fetches of one instance."""

    def __init__(self) -> None:
        self._short: deque[tuple[float, FetchReport]] = deque(maxlen=MAX_SHORT)
        self._complete: deque[tuple[float, FetchReport]] = deque(maxlen=MAX_COMPLETE)
        self._num_ids = 0
        self._number = 0
        self._sent = 0

    def next_id(self, identity: Register) -> str:
        """Returns an id for a request that has none."""
        self._num_ids += 1
        return f"{identity.instance}.{identity.incarnation % _STARTS:x}.{self._num_ids}"[-_MAX_ID:]

    def note(self, report: FetchReport, now_s: float) -> None:
        """Keeps a report; its number is given here."""
        self._number += 1
        ring = self._short if report.missing else self._complete
        ring.append((now_s, msgspec.structs.replace(report, number=self._number)))

    def rewind(self) -> None:
        """The controller may be a new one: what is kept is told again, under the same numbers."""
        self._sent = 0

    def messages(self, identity: Register, epoch: int, now_s: float) -> list[FetchReports]:
        """Returns what has not been told; each report once, unless `rewind` is called."""
        if self._sent == self._number:
            return []
        untold = [
            (at_s, report)
            for at_s, report in (*self._short, *self._complete)
            if report.number > self._sent
        ]
        untold.sort(key=lambda one: one[1].number)
        self._sent = self._number
        reports = [_aged(report, now_s - at_s) for at_s, report in untold]
        return [
            FetchReports(
                instance=identity.instance,
                incarnation=identity.incarnation,
                epoch=epoch,
                reports=tuple(reports[start : start + MAX_REPORTS]),
            )
            for start in range(0, len(reports), MAX_REPORTS)
        ]


def report_of(context: "FetchContext", outcome: FetchOutcome, now_s: float) -> FetchReport:
    """Returns what is to be remembered of a fetch."""
    keys, num_delivered = context.keys, len(outcome.entries)
    return FetchReport(
        number=0,
        request=outcome.request_id,
        tenant=context.tenant,
        num_keys=len(keys),
        num_local=outcome.num_local,
        num_delivered=num_delivered,
        reason=outcome.reason.value,
        detail=outcome.detail[:_MAX_DETAIL],
        missing=keys[num_delivered] if num_delivered < len(keys) else b"",
        took_ms=millis(now_s - context.started_s),
        troubles=context.troubles.told(now_s),
    )


def check_request_id(request_id: str) -> None:
    """Raises `ArgumentError` for an id that is too long to be reported."""
    if len(request_id) > _MAX_ID:
        raise ArgumentError("request_id", request_id, f"at most {_MAX_ID} characters")


def _aged(report: FetchReport, age_s: float) -> FetchReport:
    age_ms = millis(age_s)
    troubles = tuple(
        msgspec.structs.replace(trouble, age_ms=min(trouble.age_ms + age_ms, _MAX_MS))
        for trouble in report.troubles
    )
    return msgspec.structs.replace(report, age_ms=age_ms, troubles=troubles)


def millis(seconds: float) -> int:
    """Returns a duration as it travels."""
    return min(max(0, int(seconds * 1000)), _MAX_MS)
