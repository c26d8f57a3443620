"""How we stand with one holder over each channel, and the rules that hold for all.

No I/O, no clock, no threads.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from p2p.wire.messages import ChannelOffer, Holder, ProcessPlace

NEVER_S = float("inf")

WhySlow = Callable[[str, str, ProcessPlace | None], str]


def never_slow(channel: str, transport: str, place: ProcessPlace | None) -> str:
    """Returns that a channel is as fast as it should be."""
    del channel, transport, place
    return ""


@dataclass(frozen=True, slots=True)
class PairRules:
    """What decides over channels beside what works.

    Attributes:
        names: the channels that we have, best first.
        is_forced: their order counts, not what is expected of them.
        by_peer: names in order for the peers that a pattern fits; the first pattern counts.
        absent: why we lack channels that we could have.
        retry_s: a channel that failed is tried again after so long, then after twice as long.
        host: name of our machine.
        why_slow: says why a channel over a transport, to a process at a place, is slower than it
            should be; empty if it is not.
    """

    names: tuple[str, ...]
    is_forced: bool = False
    by_peer: tuple[tuple[str, tuple[str, ...]], ...] = ()
    absent: tuple[tuple[str, str], ...] = ()
    retry_s: float = 5.0
    host: str = ""
    why_slow: WhySlow = never_slow

    def allowed(self, instance: str) -> tuple[tuple[str, ...], bool]:
        """Returns the channels for a peer, and whether their order is a user's."""
        for pattern, names in self.by_peer:
            if fnmatchcase(instance, pattern):
                return tuple(name for name in names if name in self.names), True
        return self.names, self.is_forced

    def is_near(self, holder: Holder) -> bool:
        """Returns whether a holder is on our machine."""
        return holder.distance_to(self.host, "") == 0


@dataclass(slots=True)
class Standing:
    """One channel with one peer.

    Attributes:
        reason: why it is not used.
        is_refused: for good.
        is_suspect: a read over it failed; whatever else works goes first.
        retry_at_s: it was demoted, until then; `NEVER_S` if it was not.
        backoff_s: for how long next time.
    """

    reason: str = ""
    is_refused: bool = False
    is_suspect: bool = False
    retry_at_s: float = NEVER_S
    backoff_s: float = 0.0

    @property
    def is_demoted(self) -> bool:
        """It is not used until a time."""
        return self.retry_at_s < NEVER_S


@dataclass(slots=True)
class Pair:
    """How we stand with one holder at one of its starts.

    Attributes:
        place: where it runs, if it has told.
        used: the channel that serves; empty while none does.
        last: the channel that served last.
        since_s: it serves since then.
        slow: why it is slower than it should be.
        is_retrying: better channels are being tried.
    """

    holder: Holder
    offers: dict[str, ChannelOffer]
    place: ProcessPlace | None = None
    used: str = ""
    last: str = ""
    transport: str = "unknown"
    latency_s: float = 0.0
    since_s: float = 0.0
    slow: str = ""
    is_retrying: bool = False
    standings: dict[str, Standing] = field(default_factory=dict)

    def standing(self, channel: str) -> Standing:
        """Returns how a channel stands."""
        return self.standings.setdefault(channel, Standing())
