"""First contact: who may read from us, and how we stand with those we read from.

The holder's side is one function. The reader's side is a state machine per peer: greeted, welcomed,
linked; or refused, or down until a time that backs off. No I/O, no clock, no threads.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from p2p.backend.speeds import Speeds
from p2p.layout import Refused, compare
from p2p.wire.messages import Hello, Holder, Refusal, RefusalCode, Register, Welcome

_BACKOFF_FIRST_S = 0.25
_BACKOFF_MAX_S = 30.0
_SURE = 2
_GREET_AGAIN_S = 0.5  # a hello or its answer can be lost with the connection; doubles


def refuse_hello(own: Register, hello: Hello) -> Refusal | None:
    """Returns why a reader does not fit, or None if it is welcome."""
    differing = own.namespace.differing(hello.namespace)
    if differing:
        field = differing[0]
        ours, theirs = getattr(own.namespace, field), getattr(hello.namespace, field)
        return Refusal(code=RefusalCode.NAMESPACE, field=field, ours=ours, theirs=theirs)
    verdict = compare(hello.layout, own.layout)
    if isinstance(verdict, Refused):
        return Refusal(
            code=RefusalCode.LAYOUT, field=verdict.field, ours=verdict.theirs, theirs=verdict.ours
        )
    return None


class PeerState(Enum):
    """How a reader stands with one holder; a first contact is one that is greeted or welcomed."""

    GREETED = "greeted"
    WELCOMED = "welcomed"
    LINKED = "linked"
    DOWN = "down"
    REFUSED = "refused"


_IN_CONTACT = frozenset({PeerState.GREETED, PeerState.WELCOMED})


@dataclass(slots=True)
class Peer:
    """What a reader knows of one holder at one of its starts.

    Attributes:
        contact_s: when the first contact began, be it the one that follows a failure.
        is_reached: in this contact, somebody has answered at the holder's address.
        greeted_s: when the last hello was sent.
        greet_again_s: another one is due so much later.
        linked_s: when the channel was connected.
    """

    holder: Holder
    state: PeerState
    reason: str = ""
    contact_s: float = 0.0
    is_reached: bool = False
    greeted_s: float = 0.0
    greet_again_s: float = _GREET_AGAIN_S
    linked_s: float = float("-inf")
    retry_at_s: float = 0.0
    backoff_s: float = _BACKOFF_FIRST_S
    trust: int = 0
    silent_since_s: float | None = None
    refusal: Refusal | None = None

    @property
    def is_in_contact(self) -> bool:
        """True while the first contact goes on."""
        return self.state in _IN_CONTACT

    def delay(self, now_s: float) -> str:
        """Returns how long the first contact has lasted, and what it waits for."""
        if self.state is PeerState.WELCOMED:
            stage = "its channel is being connected"
        elif self.is_reached:
            stage = "it has not answered our hello"
        else:
            stage = "its address does not answer"
        seconds = now_s - self.contact_s
        return f"{self.holder.instance} is not linked after {seconds:.3g} s: {stage}"


@dataclass(frozen=True, slots=True)
class Guess:
    """A holder that probably has what the next fetch wants.

    Attributes:
        holder: whom to ask.
        is_sure: it was right often enough for the directory to be asked only if it is not.
    """

    holder: Holder
    is_sure: bool


class PeerBook:
    """All holders that this reader met.

    Attributes:
        speeds: how fast reads from them have been.
    """

    def __init__(self) -> None:
        self.speeds = Speeds()
        self._peers: dict[str, Peer] = {}
        self._contacts: dict[str, Peer] = {}  # those of them whose first contact goes on
        self._last_source = ""

    def served(self, instance: str) -> None:
        """The last fetch got most of its chunks from this holder."""
        self._last_source = instance

    def likely_holder(self) -> Guess | None:
        """Returns whom the next fetch may ask ahead of the directory, if anybody.

        It is the holder that served the last fetch, as long as such guesses come true.
        """
        peer = self._peers.get(self._last_source)
        if peer is None or peer.state is not PeerState.LINKED or peer.trust < 0:
            return None
        return Guess(peer.holder, is_sure=peer.trust >= _SURE)

    def judge(self, instance: str, *, is_right: bool) -> None:
        """Notes whether a holder had, or would have had, all that a fetch wanted first."""
        peer = self._peers.get(instance)
        if peer is not None:
            peer.trust = min(peer.trust + 1, _SURE) if is_right else max(peer.trust - _SURE, -1)

    def judge_unasked(self, holders: Collection[str]) -> None:
        """Compares the guess that was not made with those who hold what a fetch wanted first."""
        self.judge(self._last_source, is_right=self._last_source in holders)

    def asked(self, instance: str, now_s: float) -> None:
        """A request was sent to a holder."""
        peer = self._peers.get(instance)
        if peer is not None and peer.silent_since_s is None:
            peer.silent_since_s = now_s

    def heard(self, instance: str) -> None:
        """A holder answered something."""
        peer = self._peers.get(instance)
        if peer is not None:
            peer.silent_since_s = None

    def answered_late(self, instance: str) -> None:
        """A holder that is down has answered an earlier question: it may be greeted at once."""
        peer = self._peers.get(instance)
        if peer is not None and peer.state is PeerState.DOWN:
            peer.retry_at_s = 0.0

    def is_silent(self, instance: str, now_s: float, patience_s: float) -> bool:
        """Returns whether a holder has left requests of so long ago unanswered, and all since."""
        peer = self._peers.get(instance)
        since_s = None if peer is None else peer.silent_since_s
        return since_s is not None and now_s >= since_s + patience_s

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
            peer = Peer(holder, PeerState.GREETED, contact_s=now_s, greeted_s=now_s)
            self._peers[holder.instance] = self._contacts[holder.instance] = peer
            return True
        if peer.holder.incarnation > holder.incarnation:
            return False
        if peer.state is PeerState.DOWN and now_s >= peer.retry_at_s:
            peer.holder = holder
            peer.state = PeerState.GREETED
            self._contacts[holder.instance] = peer
            peer.contact_s = peer.greeted_s = now_s
            peer.greet_again_s = _GREET_AGAIN_S
            peer.is_reached = False
            return True
        if peer.state is PeerState.GREETED and now_s >= peer.greeted_s + peer.greet_again_s:
            peer.greeted_s = now_s
            peer.greet_again_s *= 2
            return True
        return False

    def contacts(self) -> list[Peer]:
        """Returns the holders with which the first contact goes on."""
        return list(self._contacts.values())

    @property
    def num_links(self) -> int:
        """Holders that are linked, or about to be."""
        linked = (peer.state is PeerState.LINKED for peer in self._peers.values())
        return len(self._contacts) + sum(linked)

    def reached(self, holder: Holder) -> None:
        """Somebody answers at a holder's address: its process lives."""
        peer = self._peers.get(holder.instance)
        if peer is not None and peer.holder.incarnation == holder.incarnation:
            peer.is_reached = True

    def welcomed(self, instance: str, welcome: Welcome) -> Peer | None:
        """Takes a holder's welcome; None if nobody waits for it or it is of another start."""
        peer = self._peers.get(instance)
        if peer is None or peer.state is not PeerState.GREETED:
            return None
        if welcome.incarnation != peer.holder.incarnation or welcome.instance != instance:
            return None
        peer.state = PeerState.WELCOMED
        peer.is_reached = True
        return peer

    def linked(self, instance: str, now_s: float) -> None:
        """The channel is connected."""
        peer = self._peers[instance]
        peer.state = PeerState.LINKED
        self._contacts.pop(instance, None)
        peer.linked_s = now_s
        peer.backoff_s = _BACKOFF_FIRST_S

    def unlinked(self, instance: str) -> None:
        """The channel's end is gone; whoever needs the holder greets it anew, at once."""
        peer = self._peers.get(instance)
        if peer is not None and peer.state is PeerState.LINKED:
            peer.state = PeerState.DOWN
            peer.reason = "the link is being renewed"
            peer.retry_at_s = 0.0

    def refused(self, instance: str, reason: str, refusal: Refusal | None = None) -> None:
        """The holder said no; only another start of it can change that."""
        peer = self._peers[instance]
        peer.state = PeerState.REFUSED
        self._contacts.pop(instance, None)
        peer.reason = reason
        peer.refusal = refusal

    def down(self, instance: str, reason: str, now_s: float) -> None:
        """The holder does not answer or its link broke: leave it alone for a while."""
        peer = self._peers.get(instance)
        if peer is None or peer.state in {PeerState.DOWN, PeerState.REFUSED}:
            return
        peer.state = PeerState.DOWN
        self._contacts.pop(instance, None)
        peer.reason = reason
        peer.silent_since_s = None
        peer.retry_at_s = now_s + peer.backoff_s
        peer.backoff_s = min(peer.backoff_s * 2, _BACKOFF_MAX_S)
