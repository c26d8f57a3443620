"""First contact: who may read from us, and how we stand with those we read from.

The holder's side is one function. The reader's side is a state machine per peer: greeted, welcomed,
linked; or refused, or down until a time that backs off. No I/O, no clock, no threads.
"""

from dataclasses import dataclass
from enum import Enum

from p2p.layout import Refused, compare
from p2p.wire.messages import Hello, Holder, Refusal, RefusalCode, Register, Welcome

_BACKOFF_FIRST_S = 0.25
_BACKOFF_MAX_S = 30.0
_GREET_AGAIN_S = 0.5  # a hello or its answer can be lost with the connection


def refuse_hello(own: Register, hello: Hello) -> Refusal | None:
    """Returns why a reader does not fit, or None if it is welcome."""
    for field in ("model", "weights_digest", "kv_dtype", "key_scheme", "key_seed"):
        ours, theirs = getattr(own.namespace, field), getattr(hello.namespace, field)
        if ours != theirs:
            return Refusal(code=RefusalCode.NAMESPACE, field=field, ours=ours, theirs=theirs)
    verdict = compare(hello.layout, own.layout)
    if isinstance(verdict, Refused):
        return Refusal(
            code=RefusalCode.LAYOUT, field=verdict.field, ours=verdict.theirs, theirs=verdict.ours
        )
    return None


class PeerState(Enum):
    """How a reader stands with one holder."""

    GREETED = "greeted"
    WELCOMED = "welcomed"
    LINKED = "linked"
    DOWN = "down"
    REFUSED = "refused"


@dataclass(slots=True)
class Peer:
    """What a reader knows of one holder at one of its starts."""

    holder: Holder
    state: PeerState
    reason: str = ""
    greeted_s: float = 0.0
    retry_at_s: float = 0.0
    backoff_s: float = _BACKOFF_FIRST_S


class PeerBook:
    """All holders that this reader met."""

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}

    def get(self, instance: str) -> Peer | None:
        """Returns what is known of a holder."""
        return self._peers.get(instance)

    def state(self, instance: str) -> PeerState | None:
        """Returns how we stand with a holder; None for a stranger."""
        peer = self._peers.get(instance)
        return peer.state if peer else None

    def is_usable(self, holder: Holder, now_s: float) -> bool:
        """True unless the holder, at this start of its, refused us or is down for the moment."""
        peer = self._peers.get(holder.instance)
        if peer is None or peer.holder.incarnation < holder.incarnation:
            return True
        if peer.holder.incarnation > holder.incarnation or peer.state is PeerState.REFUSED:
            return False
        return peer.state is not PeerState.DOWN or now_s >= peer.retry_at_s

    def greet(self, holder: Holder, now_s: float) -> bool:
        """Returns true if a hello must be sent now; the peer then counts as greeted."""
        peer = self._peers.get(holder.instance)
        if peer is None or peer.holder.incarnation < holder.incarnation:
            self._peers[holder.instance] = Peer(holder, PeerState.GREETED, greeted_s=now_s)
            return True
        if peer.holder.incarnation > holder.incarnation:
            return False
        is_due = peer.state is PeerState.DOWN and now_s >= peer.retry_at_s
        is_unheard = peer.state is PeerState.GREETED and now_s >= peer.greeted_s + _GREET_AGAIN_S
        if is_due or is_unheard:
            peer.holder = holder
            peer.state = PeerState.GREETED
            peer.greeted_s = now_s
            return True
        return False

    def welcomed(self, instance: str, welcome: Welcome) -> Peer | None:
        """Takes a holder's welcome; None if nobody waits for it or it is of another start."""
        peer = self._peers.get(instance)
        if peer is None or peer.state is not PeerState.GREETED:
            return None
        if welcome.incarnation != peer.holder.incarnation or welcome.instance != instance:
            return None
        peer.state = PeerState.WELCOMED
        return peer

    def linked(self, instance: str) -> None:
        """The channel is connected."""
        peer = self._peers[instance]
        peer.state = PeerState.LINKED
        peer.backoff_s = _BACKOFF_FIRST_S

    def refused(self, instance: str, reason: str) -> None:
        """The holder said no; only another start of it can change that."""
        peer = self._peers[instance]
        peer.state = PeerState.REFUSED
        peer.reason = reason

    def down(self, instance: str, reason: str, now_s: float) -> None:
        """The holder does not answer or its link broke: leave it alone for a while."""
        peer = self._peers.get(instance)
        if peer is None or peer.state in {PeerState.DOWN, PeerState.REFUSED}:
            return
        peer.state = PeerState.DOWN
        peer.reason = reason
        peer.retry_at_s = now_s + peer.backoff_s
        peer.backoff_s = min(peer.backoff_s * 2, _BACKOFF_MAX_S)
