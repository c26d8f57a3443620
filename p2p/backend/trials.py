"""Which channels are tried with a peer, in which order, and how that went. Pure values."""

from dataclasses import dataclass
from enum import Enum

from p2p.channel.typical import typical_rate
from p2p.errors import P2PError, PeerRefusedError
from p2p.wire.messages import ChannelOffer


@dataclass(frozen=True, slots=True)
class Path:
    """The way from a holder: over which channel."""

    instance: str
    channel: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """A channel to be tried.

    Attributes:
        offer: of the peer.
        expected: bytes per second that it brings at best.
        measured: bytes per second that it brought lately; 0 if that is not known of all channels.
        is_last_resort: tried only if nothing else works: it failed lately.
    """

    offer: ChannelOffer
    expected: float
    measured: float = 0.0
    is_last_resort: bool = False

    @property
    def channel(self) -> str:
        """Its name."""
        return self.offer.channel

    def worked(self, transport: str, latency_s: float) -> "Trial":
        """Returns that it works, with what is to be expected of it now."""
        rate = self.measured or typical_rate(self.channel, transport)
        return Trial(self.channel, Verdict.WORKS, "", transport, latency_s, rate)

    def failed(self, error: P2PError) -> "Trial":
        """Returns that it does not work, and why."""
        is_refused = isinstance(error, PeerRefusedError)
        verdict = Verdict.REFUSED if is_refused else Verdict.FAILED
        return Trial(self.channel, verdict, f"{self.channel}: {error}")


@dataclass(frozen=True, slots=True)
class DialPlan:
    """What to try with a peer.

    Attributes:
        attempts: best first.
        is_forced: the first one that works is taken, whatever others would bring.
        is_retry: the pair has a channel, and looks whether a better one works again.
        problem: why there is nothing to try.
        at_least: bytes per second that the pair has; what brings no more is not taken.
    """

    attempts: tuple[Attempt, ...]
    is_forced: bool = False
    is_retry: bool = False
    problem: str = ""
    at_least: float = 0.0


class Verdict(Enum):
    """How an attempt ended."""

    WORKS = "works"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Trial:
    """An attempt that was made.

    Attributes:
        channel: its name.
        verdict: how it ended; a refusal lasts as long as both sides do.
        reason: why it does not work.
        transport: what moved the bytes.
        latency_s: of a read of 4 KiB.
        rate: bytes per second that are to be expected.
    """

    channel: str
    verdict: Verdict
    reason: str = ""
    transport: str = ""
    latency_s: float = 0.0
    rate: float = 0.0
