"""The decisions of one instance: what it keeps, lends, evicts and tells.

Holds the slots, the index, the leases and the event feed together, answers peers, and places new
chunks. Everything that touches bytes, sockets or clocks is done by its owner.
No I/O, no clock, no threads: one caller at a time.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from p2p.agent.slots import SlotTable
from p2p.backend.feed import EventFeed
from p2p.backend.handshake import refuse_hello
from p2p.backend.index import Index, IndexEntry
from p2p.backend.leases import Lease, LeaseLimits, LeaseTable, Reader
from p2p.backend.membership import Gone, Membership
from p2p.keys import ChunkKey, join_keys, split_keys
from p2p.wire.exchange import Outgoing, Sender
from p2p.wire.messages import (
    Done,
    EventKind,
    Hello,
    LeaseBusy,
    LeaseGranted,
    LeaseList,
    LeaseRelease,
    LeaseRenew,
    LeaseRenewed,
    LeaseRequest,
    LeaseView,
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

_BUSY_RETRY_MS = 20
_MAX_VIEWS = 1024
_MAX_PLEAS = 64
_MAX_UNHEARD = 4096


@dataclass(frozen=True, slots=True)
class Placement:
    """A chunk that has a slot but no bytes yet.

    Attributes:
        position: of its key in the request.
        key: of the chunk.
        parent: key before it.
        slot: to fill.
    """

    position: int
    key: ChunkKey
    parent: ChunkKey | None
    slot: int


@dataclass(frozen=True, slots=True)
class Suspect:
    """A chunk of ours that a reader found to differ from its digest."""

    key: ChunkKey
    slot: int
    generation: int


@dataclass(frozen=True, slots=True)
class Plea:
    """A peer asked us to take over some of its chunks, and waits until ``deadline_s``."""

    sender: Sender
    request: TakeOver
    deadline_s: float


class InstanceCore:
    """State and rules of one instance.

    Args:
        identity: what we register as.
        offers: how to connect to each of our ranks.
        num_slots: slots of every rank's pool.
        tier: of the pool, as events name it.
        limits: of leases.
    """

    def __init__(
        self,
        identity: Register,
        offers: tuple[RankOffer, ...],
        num_slots: int,
        tier: EventKind = EventKind.ADMIT_HOST,
        limits: LeaseLimits | None = None,
    ) -> None:
        self.slots = SlotTable(num_slots)
        self.index = Index()
        self.feed = EventFeed()
        self.leases = LeaseTable(limits or LeaseLimits(), first_token=identity.incarnation)
        self.membership = Membership(identity, self.index, self.feed, tier)
        self.offers = offers
        self.counters: Counter[str] = Counter()
        self.suspects: deque[Suspect] = deque(maxlen=256)
        self.pleas: deque[Plea] = deque()
        self.news: deque[Gone] = deque(maxlen=_MAX_UNHEARD)
        self._late_answers: deque[Outgoing] = deque()
        self.is_closing = False
        self.namespace_id = identity.namespace.id
        self._tier = tier
        self._chunk_bytes = identity.layout.chunk_bytes * identity.layout.tensor_parallel
        self._readers: dict[str, int] = {}
        self._unheard: dict[Reader, None] = {}

    @property
    def identity(self) -> Register:
        """What we register as, with the incarnation that counts now."""
        return self.membership.identity

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one chunk over all ranks."""
        return self._chunk_bytes

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

    # ------------------------------------------------------------------ chunks in and out

    def begin_put(self, keys: Sequence[ChunkKey], tenant: str) -> list[Placement]:
        """Returns slots for the chunks that are not here, in order, as far as there is room.

        The chunks that are here count as used and cannot be evicted for the new ones.
        """
        here = [entry for key in keys if (entry := self.index.get(key)) is not None]
        for entry in here:
            self.index.pin(entry)
        missing = [position for position, key in enumerate(keys) if self.index.get(key) is None]
        slots = self.acquire_slots(len(missing))
        self.counters["put_chunks_refused_pool_full"] += len(missing) - len(slots)
        placements = [
            Placement(position, keys[position], keys[position - 1] if position else None, slot)
            for position, slot in zip(missing, slots, strict=False)
        ]
        for entry in here:
            self.index.touch(entry)
            self._share(entry, tenant)
            self.unpin(entry)
        return placements

    def acquire_slots(self, count: int) -> list[int]:
        """Returns up to ``count`` slots for filling, evicting chunks that nothing needs."""
        short = count - self.slots.num_free
        if short > 0:
            for entry in self.index.evict(short):
                self._gone(entry)
                self.counters["evicted_chunks"] += 1
        return self.slots.acquire(count)

    def commit(
        self, placement: Placement, roots: tuple[int, ...], tenant: str, num_pins: int = 0
    ) -> IndexEntry:
        """A filled chunk becomes part of the index and is advertised.

        Args:
            placement: key and slot of the chunk.
            roots: digest of each rank's shard.
            tenant: who may read it; empty for everybody.
            num_pins: so many pins are put on it, for the caller to take back.

        Returns:
            The entry; an earlier one, if the same chunk came in by another way meanwhile.
        """
        present = self.index.get(placement.key)
        if present is not None:
            self.slots.release(placement.slot)
            self._share(present, tenant)
            present.num_pins += num_pins
            return present
        self.slots.commit(placement.slot)
        entry = IndexEntry(
            key=placement.key,
            slot=placement.slot,
            generation=self.slots.generation(placement.slot),
            roots=roots,
            tenants=(tenant,),
            parent=placement.parent,
            num_pins=num_pins,
        )
        self.index.add(entry)
        self.feed.append(self._tier, entry.key, tenant)
        return entry

    def drop(self, entry: IndexEntry) -> None:
        """Removes a chunk that nobody has pinned, and says so."""
        self.index.remove(entry)
        self._gone(entry)

    def unpin(self, entry: IndexEntry) -> None:
        """Takes a pin back; a damaged chunk goes with its last pin."""
        self.index.unpin(entry)
        if entry.is_damaged and entry.num_pins == 0:
            self.slots.release(entry.slot)

    def clear(self) -> int:
        """Drops every chunk that nobody has pinned and returns how many those were."""
        entries = [entry for entry in self.index if entry.num_pins == 0]
        for entry in entries:
            self.drop(entry)
        return len(entries)

    def carry_out_orders(self) -> None:
        """Does what the controller asked for."""
        for order in self.membership.take_orders():
            dropped = self.clear() if order.namespace == self.namespace_id else 0
            self.membership.order_done(order, dropped)

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
                answer = self._on_release(message)
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
        num_max = self.leases.room(reader) // self._chunk_bytes
        entries, missing = _as_far_as(found, num_max)
        is_cut = len(entries) + len(missing) < len(found)
        if not entries:
            if is_cut:
                self.counters["leases_busy"] += 1
                return LeaseBusy(retry_after_ms=_BUSY_RETRY_MS)
            return LeaseGranted(
                token=0, ttl_ms=0, slots=(), generations=(), roots=(), missing=missing
            )
        for entry in entries:
            self.index.pin(entry)
            self.index.touch(entry)
        num_bytes = len(entries) * self._chunk_bytes
        lease = self.leases.grant(reader, entries, num_bytes, request.ttl_ms / 1000, now_s)
        self.counters["leases_granted"] += 1
        return LeaseGranted(
            token=lease.token,
            ttl_ms=int((lease.deadline_s - now_s) * 1000),
            slots=tuple(entry.slot for entry in entries),
            generations=tuple(entry.generation for entry in entries),
            roots=tuple(zip(*(entry.roots for entry in entries), strict=True)),
            missing=missing,
            retry_after_ms=_BUSY_RETRY_MS if is_cut else 0,
        )

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

    def take_news(self) -> bool:
        """Acts on the members that are gone; returns whether the reading half has news, too."""
        gone = self.membership.take_gone()
        for member in gone:
            self._on_gone(member)
        self.news.extend(gone)
        return bool(gone)

    def answer_plea(self, plea: Plea, num_chunks: int) -> None:
        """The fetch that a peer had asked for has ended."""
        self._late_answers.append(Outgoing(plea.sender, TakenOver(num_chunks=num_chunks)))

    @property
    def has_late_answers(self) -> bool:
        """True if `take_late_answers` has some. May be asked without the lock."""
        return bool(self._late_answers)

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

    def _on_release(self, message: LeaseRelease) -> Message:
        reader = Reader(message.instance, message.incarnation)
        lease = self.leases.release(reader, message.token)
        if lease is not None:
            self._end(lease)
        return Done()

    def _on_list(self, now_s: float) -> Message:
        leases = self.leases.all()
        views = tuple(
            LeaseView(
                reader=lease.reader.instance,
                incarnation=lease.reader.incarnation,
                token=lease.token,
                num_chunks=len(lease.entries),
                num_bytes=lease.num_bytes,
                left_ms=max(0, int((lease.deadline_s - now_s) * 1000)),
            )
            for lease in leases[:_MAX_VIEWS]
        )
        return LeaseList(leases=views, more=len(leases) - len(views))

    def _on_take_over(self, sender: Sender, request: TakeOver, now_s: float) -> list[Outgoing]:
        """Keeps a peer's plea for the reading half, whose fetch answers it."""
        if self.is_closing:
            return [Outgoing(sender, Refusal(code=RefusalCode.CLOSING))]
        if request.namespace != self.namespace_id or len(request.keys) % request.key_bytes:
            return [Outgoing(sender, Refusal(code=RefusalCode.MALFORMED, field="keys"))]
        if len(self.pleas) >= _MAX_PLEAS:
            return [Outgoing(sender, LeaseBusy(retry_after_ms=_BUSY_RETRY_MS))]
        self.pleas.append(Plea(sender, request, now_s + request.ttl_ms / 1000))
        return []

    def _on_mismatch(self, message: ReportMismatch) -> Message:
        self.counters["mismatches_reported"] += 1
        suspect = Suspect(ChunkKey(message.key), message.slot, message.generation)
        if self._readers.get(message.instance) == message.incarnation:
            self.suspects.append(suspect)
        return Done()

    def take_suspects(self) -> list[Suspect]:
        """Returns the chunks that readers reported since the last call."""
        suspects = list(self.suspects)
        self.suspects.clear()
        return suspects

    def pin_suspect(self, suspect: Suspect) -> IndexEntry | None:
        """Pins a reported chunk for examination; None if it is not what was reported any more."""
        entry = self.index.get(suspect.key)
        if entry is None or (entry.slot, entry.generation) != (suspect.slot, suspect.generation):
            return None
        self.index.pin(entry)
        return entry

    def judge_suspect(self, entry: IndexEntry, roots: tuple[int, ...]) -> bool:
        """Unpins an examined chunk; a damaged one is lent no more. Returns whether it was."""
        if roots != entry.roots and not entry.is_damaged:
            entry.is_damaged = True
            self.index.detach(entry)
            self._tell_gone(entry)
            self.counters["damaged_chunks"] += 1
        self.unpin(entry)
        return entry.is_damaged

    # ------------------------------------------------------------------ parts

    def _stale(self, field: str, ours: int, theirs: int) -> Refusal:
        code = RefusalCode.STALE_INCARNATION
        return Refusal(code=code, field=field, ours=str(ours), theirs=str(theirs))

    def _share(self, entry: IndexEntry, tenant: str) -> None:
        """A chunk that is here is stored again, for somebody who could not read it before."""
        if tenant in entry.tenants or "" in entry.tenants:
            return
        if tenant:
            entry.tenants = (*entry.tenants, tenant)
        else:
            self._tell_gone(entry)
            entry.tenants = ("",)
        self.feed.append(self._tier, entry.key, tenant)

    def _end(self, lease: Lease) -> None:
        for entry in lease.entries:
            self.unpin(entry)

    def _gone(self, entry: IndexEntry) -> None:
        self.slots.release(entry.slot)
        self._tell_gone(entry)

    def _tell_gone(self, entry: IndexEntry) -> None:
        for tenant in entry.tenants:
            self.feed.append(EventKind.EVICT, entry.key, tenant)

    def check_integrity(self) -> None:
        """Raises `AssertionError` if slots, index and leases contradict each other."""
        self.slots.check_integrity()
        self.index.check_integrity()
        for entry in self.index:
            if entry.generation != self.slots.generation(entry.slot):
                raise AssertionError(f"chunk {entry.key.hex()} has an old generation")


def _as_far_as(
    found: Sequence[IndexEntry | None], num_max: int
) -> tuple[tuple[IndexEntry, ...], tuple[int, ...]]:
    """Returns the first so many entries, and the numbers of the gaps before and between them."""
    entries: list[IndexEntry] = []
    missing: list[int] = []
    for number, entry in enumerate(found):
        if entry is None:
            missing.append(number)
        elif len(entries) < num_max:
            entries.append(entry)
        else:
            break
    return tuple(entries), tuple(missing)
