"""The decisions of one instance: what it lends to peers, and what it tells them and the controller.

Everything that touches bytes, sockets or clocks is done by its owner. No I/O, no clock, no threads:
one caller at a time.
"""

from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, assert_never

import msgspec

from p2p.backend.channel_rates import ChannelRates
from p2p.backend.errands import Errands
from p2p.backend.fetch_log import FetchLog
from p2p.backend.handshake import refuse_hello
from p2p.backend.hot import HotChunks, HotLimits
from p2p.backend.index import IndexEntry
from p2p.backend.leases import Lease, LeaseLimits, LeaseTable, Reader
from p2p.backend.lending import BUSY_RETRY_MS, Loan, as_far_as
from p2p.backend.membership import Membership
from p2p.backend.pins import Pins
from p2p.backend.plea import Plea
from p2p.backend.roster import Gone
from p2p.backend.speeds import Rate
from p2p.backend.store import ChunkStore, Suspect
from p2p.keys import ChunkKey, join_keys, split_keys
from p2p.wire.exchange import Outgoing, Sender
from p2p.wire.messages import (
    Done,
    EventKind,
    Hello,
    LeaseBusy,
    LeaseList,
    LeaseRelease,
    LeaseRenew,
    LeaseRenewed,
    LeaseRequest,
    ListLeases,
    Locate,
    Message,
    PeerRequest,
    RankOffer,
    Refusal,
    RefusalCode,
    Register,
    ReportMismatch,
    TakenOver,
    TakeOver,
    Welcome,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from p2p.backend.following import Following
    from p2p.backend.handover import Handover

_MAX_VIEWS = 1024
_MAX_PLEAS = 64
_MAX_UNHEARD = 4096


class InstanceCore(ChunkStore):
    """State and rules of one instance: what it keeps, and whom it lends it to.

    Args:
        identity: what we register as.
        offers: how to connect to each of our ranks.
        num_slots: slots of every rank's pool.
        tier: of the pool, as events name it.
        limits: of leases.
        hot: when readers are sent to each other.

    Attributes:
        handover: what we leave to peers, once we are about to go.
        following: keeps a mirror of the directory, if we have one.
        prefill: tokens per second that the engine computes.
    """

    def __init__(
        self,
        identity: Register,
        offers: tuple[RankOffer, ...],
        num_slots: int,
        tier: EventKind = EventKind.ADMIT_HOST,
        limits: LeaseLimits | None = None,
        hot: HotLimits | None = None,
    ) -> None:
        super().__init__(num_slots, tier)
        self.hot = HotChunks(hot or HotLimits())
        self.handover: Handover | None = None
        self.leases = LeaseTable(limits or LeaseLimits(), first_token=identity.incarnation)
        self.membership = Membership(identity, self.index, self.feed, tier)
        self.following: Following | None = None
        self.errands = Errands(self, Pins(self.index, num_slots // 2))
        self.offers = offers
        self.prefill = Rate()
        self.pleas: deque[Plea] = deque()
        self.news: deque[Gone] = deque(maxlen=_MAX_UNHEARD)
        self._late_answers: deque[Outgoing] = deque()
        self.is_closing = False
        self.namespace_id = identity.namespace.id
        self._chunk_bytes = identity.layout.chunk_bytes * identity.layout.tensor_parallel
        self._readers: dict[str, int] = {}
        self._unheard: dict[Reader, None] = {}
        self._told_version: tuple[int, int] | None = None

    @property
    def identity(self) -> Register:
        """What we register as, with the incarnation that counts now."""
        return self.membership.identity

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one chunk over all ranks."""
        return self._chunk_bytes

    @property
    def fetch_log(self) -> FetchLog:
        """What is remembered of the last fetches."""
        return self.membership.fetch_log

    def num_peers(self, now_s: float) -> int:
        """Returns how many other members are known."""
        known = self.membership.roster.known(now_s)
        return sum(peer.instance != self.identity.instance for peer in known)

    def tell_rates(self, rates: ChannelRates) -> None:
        """From now on peers are told what our channels have brought."""
        self.offers = tuple(
            msgspec.structs.replace(offer, channels=rates.told(offer.channels))
            for offer in self.offers
        )

    def question(self, keys: Sequence[ChunkKey], tenant: str) -> Locate:
        """Returns what to ask the directory about some keys.

        Raises:
            ArgumentError: as `join_keys`.
        """
        blob, key_bytes = join_keys(keys)
        return Locate(
            namespace=self.namespace_id,
            keys=blob,
            key_bytes=key_bytes,
            instance=self.identity.instance,
            tenant=tenant,
        )

    def carry_out_orders(self, now_s: float) -> None:
        """Does what the controller asked for."""
        for result in self.errands.carry_out(self.membership.open_orders(), now_s):
            self.membership.order_done(result)

    def next_bond_s(self, now_s: float) -> float:
        """Returns when `carry_out_orders` or the membership has something to do."""
        errands_s = self.errands.next_deadline_s(now_s)
        return min(self.membership.next_deadline_s(now_s), errands_s)

    # ------------------------------------------------------------------ answers to peers

    def handle(self, sender: Sender, message: PeerRequest, now_s: float) -> list[Outgoing]:
        """Returns the answer to a peer's request."""
        self.tick(now_s)
        match message:
            case Hello():
                answer = self._on_hello(message)
            case LeaseRequest():
                answer = self._on_lease(message, now_s)
            case LeaseRenew():
                answer = self._on_renew(message, now_s)
            case LeaseRelease():
                answer = self._on_release(message, now_s)
            case ReportMismatch():
                answer = self._on_mismatch(message)
            case ListLeases():
                answer = self._on_list(now_s)
            case TakeOver():
                return self._on_take_over(sender, message, now_s)
            case _:
                assert_never(message)
        return [Outgoing(sender, answer)]

    def tick(self, now_s: float) -> None:
        """Ends leases whose time is over."""
        if len(self.leases):
            self.hot.busy_s = now_s
        for lease in self.leases.expire(now_s):
            self.counters["leases_expired"] += 1
            self._end(lease)

    def _on_hello(self, hello: Hello) -> Message:
        if self.is_closing:
            return Refusal(code=RefusalCode.CLOSING)
        refusal = refuse_hello(self.identity, hello)
        if refusal is not None:
            self.counters[f"hello_refused_{refusal.field}"] += 1
            return refusal
        known = self._readers.get(hello.instance, 0)
        if hello.incarnation < known:
            return self._stale("incarnation", known, hello.incarnation)
        self._readers[hello.instance] = hello.incarnation
        self._unheard.pop(Reader(hello.instance, hello.incarnation), None)
        for lease in self.leases.fence(Reader(hello.instance, hello.incarnation)):
            self.counters["leases_fenced"] += 1
            self._end(lease)
        identity = self.identity
        return Welcome(
            instance=identity.instance, incarnation=identity.incarnation, ranks=self.offers
        )

    def _on_lease(self, request: LeaseRequest, now_s: float) -> Message:
        refusal = self._refuse_lease(request)
        if refusal is not None:
            self.counters[f"leases_refused_{refusal.code.value}"] += 1
            return refusal
        reader = Reader(request.instance, request.incarnation)
        keys = split_keys(request.keys, request.key_bytes)
        found = self.index.readable(keys, request.tenant)
        is_long = self.hot.is_long(len(found) * self._chunk_bytes, reader.instance, now_s)
        if is_long:
            self.hot.note_seeker(keys, reader.instance)
        may_wait = not request.is_urgent and not self.leases.has(reader)
        loan = self._loan(found, reader, now_s, is_long=is_long, may_wait=may_wait)
        if not loan.entries:
            self.counters["leases_busy"] += not loan.is_all
            return loan.answer(None, now_s)
        if is_long:
            self.hot.lend(loan.entries, reader.instance, now_s)
        self.index.lend(loan.entries)
        num_bytes = len(loan.entries) * self._chunk_bytes
        lease = self.leases.grant(reader, loan.entries, num_bytes, request.ttl_ms / 1000, now_s)
        self.hot.busy_s = now_s
        self.counters["leases_granted"] += 1
        return loan.answer(lease, now_s)

    def _loan(
        self,
        found: Sequence[IndexEntry | None],
        reader: Reader,
        now_s: float,
        *,
        is_long: bool,
        may_wait: bool,
    ) -> Loan:
        """Returns what of a request is lent, and to whom else the reader is sent."""
        is_end: Callable[[IndexEntry], bool] | None = None
        if may_wait and (is_long or self.handover is not None):
            is_end = partial(self._is_elsewhere, reader=reader, now_s=now_s, is_long=is_long)
        num_max = self.leases.room(reader) // self._chunk_bytes
        entries, missing = as_far_as(found, num_max, is_end)
        num_looked = len(entries) + len(missing)
        alternates: tuple[str, ...] = ()
        if num_looked < len(found):
            alternates = self._send_elsewhere(found, num_looked, reader, now_s)
        elif is_long:
            alternates = self.hot.fellows(entries, reader.instance, now_s)
        return Loan(entries, missing, num_looked == len(found), alternates)

    def _is_elsewhere(
        self, entry: IndexEntry, reader: Reader, now_s: float, *, is_long: bool
    ) -> bool:
        """True if a reader gets a chunk better from others."""
        name = reader.instance
        if self.handover is not None and self.handover.takers_of(entry.key, name):
            return True
        return is_long and self.hot.is_crowded(entry, name, now_s)

    def _send_elsewhere(
        self, found: Sequence[IndexEntry | None], first: int, reader: Reader, now_s: float
    ) -> tuple[str, ...]:
        """Returns whom a reader should ask for the first chunk that it is not lent."""
        entry = found[first]
        if entry is None:
            return ()
        takers: tuple[str, ...] = ()
        if self.handover is not None:
            takers = self.handover.takers_of(entry.key, reader.instance)
        if self.hot.is_crowded(entry, reader.instance, now_s):
            self.hot.send_away(self.index, found[first:], reader.instance, now_s)
        self.counters["readers_sent_elsewhere"] += bool(takers or entry.readers)
        return takers or tuple(name for name in entry.readers if name != reader.instance)

    def _refuse_lease(self, request: LeaseRequest) -> Refusal | None:
        own, wanted = self.identity, request.holder_incarnation
        refusal: Refusal | None = None
        if self.is_closing:
            refusal = Refusal(code=RefusalCode.CLOSING)
        elif wanted != own.incarnation:
            refusal = self._stale("holder_incarnation", own.incarnation, wanted)
        elif request.namespace != self.namespace_id:
            refusal = Refusal(
                code=RefusalCode.NAMESPACE,
                field="namespace",
                ours=self.namespace_id,
                theirs=request.namespace,
            )
        elif self._readers.get(request.instance) != request.incarnation:
            refusal = Refusal(code=RefusalCode.UNKNOWN_INSTANCE, field="instance")
        elif len(request.keys) % request.key_bytes:
            ours = str(request.key_bytes)
            refusal = Refusal(code=RefusalCode.MALFORMED, field="keys", ours=ours)
        return refusal

    def _on_renew(self, message: LeaseRenew, now_s: float) -> Message:
        reader = Reader(message.instance, message.incarnation)
        ttl_s = None
        if reader not in self._unheard and self._is_unchanged(message.token):
            ttl_s = self.leases.renew(reader, message.token, message.ttl_ms / 1000, now_s)
        if ttl_s is None:
            return Refusal(code=RefusalCode.LEASE_LOST, field="token", theirs=str(message.token))
        return LeaseRenewed(token=message.token, ttl_ms=int(ttl_s * 1000))

    def _is_unchanged(self, token: int) -> bool:
        """True if every lent slot still is of the generation that the lease names."""
        lease = self.leases.get(token)
        if lease is None:
            return False
        generation = self.slots.generation
        if all(generation(entry.slot) == entry.generation for entry in lease.entries):
            return True
        self.counters["generations_changed"] += 1
        return False

    @property
    def is_lending(self) -> bool:
        """True while somebody may read here."""
        return len(self.leases) > 0

    def take_news(self) -> bool:
        """Acts on the members that are gone; returns whether the reading half has news, too.

        A list of members is news whatever is in it.
        """
        gone = self.membership.roster.take_gone()
        for member in gone:
            self._on_gone(member)
        self.news.extend(gone)
        version, self._told_version = self._told_version, self.membership.roster.version
        return bool(gone) or version != self._told_version

    @property
    def wants_reader(self) -> bool:
        """True if the reading half has work for others. May be asked without the lock."""
        return bool(self.pleas or self.hot.copies or self.errands.for_reader)

    def answer_plea(self, plea: Plea, num_chunks: int, *, is_full: bool) -> None:
        """The fetch that a peer had asked for has ended."""
        answer = TakenOver(num_chunks=num_chunks, is_full=is_full)
        self.answer_late(plea.sender, answer)

    def answer_late(self, sender: Sender, answer: Message) -> None:
        """Answers a request that came earlier."""
        self._late_answers.append(Outgoing(sender, answer))

    @property
    def has_late_answers(self) -> bool:
        """True if `take_late_answers` has some. May be asked without the lock."""
        return bool(self._late_answers)

    @property
    def has_bond_news(self) -> bool:
        """True if the controller is to be told of something. May be asked without the lock."""
        return self.errands.has_news or self.membership.has_leave_news

    def take_late_answers(self) -> list[Outgoing]:
        """Returns the answers to earlier requests that have become due."""
        answers = list(self._late_answers)
        self._late_answers.clear()
        return answers

    def _on_gone(self, gone: Gone) -> None:
        """Leases of a member that is not heard are not renewed; if it restarted, they end."""
        reader = Reader(gone.instance, gone.incarnation)
        self._unheard[reader] = None
        while len(self._unheard) > _MAX_UNHEARD:
            del self._unheard[next(iter(self._unheard))]
        if gone.is_restarted:
            for lease in self.leases.fence(Reader(gone.instance, gone.incarnation + 1)):
                self.counters["leases_fenced"] += 1
                self._end(lease)

    def _on_release(self, message: LeaseRelease, now_s: float) -> Message:
        reader = Reader(message.instance, message.incarnation)
        lease = self.leases.release(reader, message.token)
        if lease is not None:
            self.hot.served(lease.num_bytes, now_s - lease.granted_s, now_s)
            self._end(lease)
        return Done()

    def _on_list(self, now_s: float) -> Message:
        leases = self.leases.all()
        views = tuple(lease.view(now_s) for lease in leases[:_MAX_VIEWS])
        return LeaseList(leases=views, more=len(leases) - len(views))

    def _on_take_over(self, sender: Sender, request: TakeOver, now_s: float) -> list[Outgoing]:
        """Keeps a peer's plea for the reading half, whose fetch answers it."""
        if self.is_closing or self.handover is not None:
            return [Outgoing(sender, Refusal(code=RefusalCode.CLOSING))]
        if request.namespace != self.namespace_id or len(request.keys) % request.key_bytes:
            return [Outgoing(sender, Refusal(code=RefusalCode.MALFORMED, field="keys"))]
        if len(self.pleas) >= _MAX_PLEAS:
            return [Outgoing(sender, LeaseBusy(retry_after_ms=BUSY_RETRY_MS))]
        self.pleas.append(Plea(sender, request, now_s + request.ttl_ms / 1000))
        return []

    def _on_mismatch(self, message: ReportMismatch) -> Message:
        self.counters["mismatches_reported"] += 1
        suspect = Suspect(ChunkKey(message.key), message.slot, message.generation)
        if self._readers.get(message.instance) == message.incarnation:
            self.suspects.append(suspect)
        return Done()

    # ------------------------------------------------------------------ parts

    def _stale(self, field: str, ours: int, theirs: int) -> Refusal:
        code = RefusalCode.STALE_INCARNATION
        return Refusal(code=code, field=field, ours=str(ours), theirs=str(theirs))

    def _end(self, lease: Lease) -> None:
        for entry in self.index.take_back(lease.entries):
            if entry.is_damaged:
                self.slots.release(entry.slot)
