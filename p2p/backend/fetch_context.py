"""What the parts of one fetch share: the request, its limits, and its surroundings.

No I/O, no clock, no threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from p2p.backend.actions import Action, ReadId, Tag
from p2p.backend.chunks import ChunkTable
from p2p.backend.fetch_log import Troubles
from p2p.backend.handshake import Peer, PeerBook
from p2p.backend.instance import InstanceCore
from p2p.backend.plan import PlanLimits
from p2p.keys import ChunkKey
from p2p.wire.messages import Holder, Locate, Message


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Timing and sizes of a fetch.

    Attributes:
        window_bytes: largest read that is submitted at once.
        num_windows: a fetch is cut into about so many windows at least.
        reads_per_holder: reads under way at a holder that serves alone.
        reads_if_shared: reads under way at each holder where several serve.
        reads_if_unknown: reads under way at a holder whose bandwidth was not measured lately.
        ask_timeout_s: a holder that does not answer within this is left, or within a quarter of
            the budget if that is shorter.
        link_share: of the budget, for the first contact with a holder whose process is known to
            live, if that is longer.
        company_s: after so much of a first contact, or an eighth of the budget, the next holder is
            asked as well.
        contact_s: a first contact is given up after this; it goes on beyond the fetch.
        silence_s: a holder that has not answered for so long is left alone by everybody.
        stall_s: a holder from which nothing comes for so long, or for a third of the budget, is
            left.
        ahead_bytes: a fetch of at most so much asks a likely holder ahead of the directory.
        ahead_wait_s: a holder that is sure to have it may take so long to answer before the
            directory is asked as well.
        patience_s: a fetch for which nothing arrives for so long (or an eighth of the budget, if
            that is longer) is not sent elsewhere any more.
        look_left_s: a fetch that has lost its holders asks the directory again while so much time
            is left; see `second_look`.
        lease_slack_s: leases are asked for the budget and this.
        direct_peers: so many known peers are asked where the directory is silent.
        silent_wait_s: a directory that has been silent before is given only so long.
        verify_one_in: the digests of one read in so many are checked; 1 is all of them, 0 none.
        late_s: a read that takes less is never late.
        hedge_share: so much of a fetch may be read a second time where the first read is late.
        pull: ``auto`` leaves to the engine what would take longer to read, ``always`` reads,
            ``never`` does not.
        keep: which of the fetched chunks are kept; see `is_kept`.
        plan: how runs are spread.
    """

    window_bytes: int = 8 << 20
    num_windows: int = 16
    reads_per_holder: int = 6
    reads_if_shared: int = 2
    reads_if_unknown: int = 2
    ask_timeout_s: float = 1.0
    link_share: float = 0.5
    company_s: float = 0.1
    contact_s: float = 10.0
    silence_s: float = 0.1
    stall_s: float = 5.0
    ahead_bytes: int = 16 << 20
    ahead_wait_s: float = 0.001
    patience_s: float = 0.5
    look_left_s: float = 2.0
    lease_slack_s: float = 0.5
    direct_peers: int = 4
    silent_wait_s: float = 0.02
    verify_one_in: int = 1
    late_s: float = 0.02
    hedge_share: float = 0.1
    pull: str = "auto"
    keep: str = "hot"
    plan: PlanLimits = field(default_factory=PlanLimits)


class Desk(Protocol):
    """What a fetch needs of its surroundings; `owner` is what outcomes come back to."""

    @property
    def instance(self) -> InstanceCore:
        """The instance whose pool is filled."""
        ...

    @property
    def book(self) -> PeerBook:
        """How we stand with holders."""
        ...

    def emit(self, action: Action) -> None:
        """Asks the shell for something."""
        ...

    def ask(self, holder: Holder, message: Message, now_s: float) -> Tag:
        """Sends a request to a holder, after a hello where that is due."""
        ...

    def down(self, instance: str, reason: str, now_s: float) -> None:
        """A holder does not work: every fetch is told."""
        ...

    def ask_controller(self, question: Locate) -> None:
        """Sends the fetch's question to the directory."""
        ...

    def give_back(self, holder: Holder, token: int) -> None:
        """Releases a lease at its holder, without waiting for an answer."""
        ...

    def next_read(self) -> ReadId:
        """Returns a fresh read id whose outcome comes back to the fetch."""
        ...


@dataclass(frozen=True, slots=True)
class Behalf:
    """A fetch that somebody else has asked for.

    Attributes:
        evict_before: chunks whose last use was not before this are not evicted for it.
        source: who is to be read from; None for whoever is best.
    """

    evict_before: int
    source: Holder | None = None


@dataclass(slots=True)
class FetchContext:
    """One request.

    Attributes:
        desk: surroundings.
        keys: chunks wanted, in order.
        tenant: who asks.
        started_s: when.
        budget_s: time until the outcome must be there.
        limits: timing and sizes.
        chunks: where each chunk stands.
        request_id: under which it is reported; empty for a fetch on behalf of a peer.
        troubles: what went wrong with holders.
        now_s: the time of what happens now.
        behalf: who else it is for; None if it is for a caller here.
        num_arrived: chunks whose reads have ended well.
        arrived_s: when the last chunk arrived; before that, when the fetch started.
        is_delivered: the outcome is there; what is still under way only has to end.
        is_sent_elsewhere: others are known to want the same, or to have taken it over.
        deadline_s: when the outcome must be there.
        ask_timeout_s: how long a question may stay unanswered.
        link_timeout_s: how long the first contact with a holder that lives may last.
        company_s: so long it may last before the next holder is asked as well.
        stall_s: how long one read may take.
        window_chunks: chunks of one read.
    """

    desk: Desk
    keys: Sequence[ChunkKey]
    tenant: str
    started_s: float
    budget_s: float
    limits: FetchLimits
    chunks: ChunkTable
    request_id: str = ""
    troubles: Troubles = field(default_factory=Troubles)
    behalf: Behalf | None = None
    is_delivered: bool = False
    is_sent_elsewhere: bool = False
    num_arrived: int = 0
    arrived_s: float = field(init=False)
    now_s: float = field(init=False)

    deadline_s: float = field(init=False)
    ask_timeout_s: float = field(init=False)
    link_timeout_s: float = field(init=False)
    company_s: float = field(init=False)
    stall_s: float = field(init=False)
    window_chunks: int = field(init=False)

    @property
    def evict_before(self) -> int | None:
        """Chunks whose last use was not before this are not evicted; None evicts any."""
        return None if self.behalf is None else self.behalf.evict_before

    @property
    def source(self) -> Holder | None:
        """Who is to be read from; None for whoever is best."""
        return None if self.behalf is None else self.behalf.source

    def link_by_s(self, peer: Peer) -> float:
        """Returns how long this fetch waits for a first contact, whoever began it.

        Where nobody has answered at the holder's address, its host or process may be dead.
        """
        return peer.contact_s + (self.link_timeout_s if peer.is_reached else self.ask_timeout_s)

    def is_usable(self, holder: Holder, now_s: float) -> bool:
        """True unless a holder refused us, is down, or its first contact takes too long for us."""
        book = self.desk.book
        if not book.is_usable(holder, now_s):
            return False
        peer = book.get(holder.instance)
        if peer is None or peer.holder.incarnation != holder.incarnation:
            return True
        return not peer.is_in_contact or now_s < self.link_by_s(peer)

    def __post_init__(self) -> None:
        self.arrived_s = self.now_s = self.started_s
        self.deadline_s = self.started_s + self.budget_s
        self.ask_timeout_s = min(self.limits.ask_timeout_s, self.budget_s / 4)
        self.link_timeout_s = max(self.ask_timeout_s, self.budget_s * self.limits.link_share)
        self.company_s = min(self.limits.company_s, self.budget_s / 8)
        self.stall_s = min(self.limits.stall_s, self.budget_s / 3)
        chunk_bytes = self.desk.instance.chunk_bytes
        share = len(self.keys) * chunk_bytes // self.limits.num_windows
        self.window_chunks = max(1, min(self.limits.window_bytes, share) // chunk_bytes)
