"""How fast things have been lately: reads from each holder, and the engine's own prefill.

Rates forget: what was measured long ago is not believed any more. No I/O, no clock, no threads.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

_MEMORY_S = 1.0  # about so much busy time is averaged over
_FORGET_S = 60.0
_LEAST_BYTES = 1 << 20  # less, without a pause, tells about latency, not about bandwidth
_REFUSALS_HALVE_S = 1.0


@dataclass(slots=True)
class Rate:
    """Units per second of busy time, the latest counting most."""

    _amount: float = 0.0
    _seconds: float = 0.0
    _noted_s: float = float("-inf")

    def note(self, amount: float, seconds: float, now_s: float) -> None:
        """Something was done in so many seconds."""
        if now_s > self._noted_s + _FORGET_S:
            self._amount = self._seconds = 0.0
        self._amount += amount
        self._seconds += seconds
        self._noted_s = now_s
        if self._seconds > _MEMORY_S:
            scale = _MEMORY_S / self._seconds / 2
            self._amount *= scale
            self._seconds *= scale

    def value(self, now_s: float) -> float | None:
        """Returns the rate; None if nothing was measured lately."""
        if self._seconds <= 0 or now_s > self._noted_s + _FORGET_S:
            return None
        return self._amount / self._seconds


@dataclass(slots=True)
class _Link:
    rate: Rate = field(default_factory=Rate)
    in_flight: int = 0
    arrived: int = 0
    since_s: float = 0.0
    refusals: float = 0.0
    refused_s: float = 0.0


class Standing(NamedTuple):
    """What is known of the way to one holder.

    Attributes:
        bytes_per_s: measured; None if it was not lately.
        in_flight: bytes that are being read from it.
        refusals: how often it was busy lately; an old refusal counts less.
    """

    bytes_per_s: float | None = None
    in_flight: int = 0
    refusals: float = 0.0


class Speeds:
    """The reads of one instance from every holder, over all its fetches."""

    def __init__(self) -> None:
        self._links: dict[str, _Link] = {}

    def started(self, instance: str, num_bytes: int, now_s: float) -> None:
        """A read was submitted."""
        link = self._links.setdefault(instance, _Link())
        if not link.in_flight:
            link.since_s = now_s
        link.in_flight += num_bytes

    def ended(self, instance: str, num_bytes: int, now_s: float, *, is_good: bool) -> None:
        """A read ended, well or not; those that overlap or follow each other share the time."""
        link = self._links[instance]
        link.in_flight -= num_bytes
        link.arrived = link.arrived + num_bytes if is_good else 0
        if link.arrived >= _LEAST_BYTES:
            link.rate.note(link.arrived, max(now_s - link.since_s, 1e-6), now_s)
        if link.arrived >= _LEAST_BYTES or not is_good or not link.in_flight:
            link.arrived = 0
            link.since_s = now_s

    def refused(self, instance: str, now_s: float) -> None:
        """A holder was busy."""
        link = self._links.setdefault(instance, _Link())
        link.refusals = _faded(link, now_s) + 1.0
        link.refused_s = now_s

    def standing(self, instance: str, now_s: float) -> Standing:
        """Returns what is known of the way to a holder."""
        link = self._links.get(instance)
        if link is None:
            return Standing()
        return Standing(link.rate.value(now_s), link.in_flight, _faded(link, now_s))

    def expected_s(self, instance: str, now_s: float) -> float | None:
        """Returns how long it takes until all that is under way from a holder is here."""
        standing = self.standing(instance, now_s)
        return standing.in_flight / standing.bytes_per_s if standing.bytes_per_s else None


def _faded(link: _Link, now_s: float) -> float:
    if not link.refusals:
        return 0.0
    halvings: float = 0.5 ** ((now_s - link.refused_s) / _REFUSALS_HALVE_S)
    return link.refusals * halvings
