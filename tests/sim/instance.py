"""One simulated instance: the production cores, a pool of small slots, and what drives them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from p2p.backend.actions import Phase, ReadId, ShortReason
from p2p.backend.fetch import Fetch
from p2p.backend.following import Following
from p2p.backend.index import IndexEntry
from p2p.backend.instance import InstanceCore
from p2p.backend.leases import LeaseLimits
from p2p.backend.reader import ReaderCore
from p2p.backend.store import Placement
from p2p.keys import ChunkKey, Namespace
from p2p.regions import Region, Segment
from p2p.wire.exchange import Outgoing, Sender
from p2p.wire.messages import ChannelOffer, RankOffer, Register
from tests.sim.bond import Bond, PeerService
from tests.sim.clock import require
from tests.sim.coverage import BEFORE_LOCATE
from tests.sim.engine import Engine
from tests.sim.hedges import positions_under_way
from tests.sim.limits import ahead_limits, compute_s, fetch_limits, hot_limits
from tests.sim.partings import watch_partings
from tests.sim.pool import CHUNK_BYTES, LAYOUT, Pool, Stored
from tests.sim.process import MAX_SKEW
from tests.sim.wire import Server

if TYPE_CHECKING:
    from tests.sim.world import World

NAMESPACE = Namespace("sim", "0", "uint8")
_LATE_S = 0.02  # wake-ups take time, which is no promise broken
_ANNOUNCE_S = 0.1
_LEND_S = 0.2
_LOOK_S = 0.01
_END = frozenset({ShortReason.BUDGET_SPENT, ShortReason.CLOSED, ShortReason.RECOMPUTE_CHOSEN})


@dataclass(slots=True, eq=False)
class Caller:
    """Somebody who waits for a fetch.

    Attributes:
        deadline_s: on the instance's clock.
        true_deadline_s: if that clock is as slow as it may be.
        phase: that the fetch reached last.
        holders: names of the instances that it was planned to read from.
    """

    fetch: Fetch
    keys: list[ChunkKey]
    tenant: str
    deadline_s: float
    true_deadline_s: float
    phase: str = BEFORE_LOCATE

    @property
    def holders(self) -> list[str]:
        """Names of the instances that the fetch reads from."""
        return [borrower.holder.instance for borrower in self.fetch._borrowing.lenders]


class SimInstance(Server):
    """An instance that can crash, stand still, leave, and come again."""

    def __init__(self, world: "World", name: str, num_slots: int) -> None:
        super().__init__(world.network, name)
        self.world = world
        self.num_slots = num_slots
        self.compute_s = compute_s(self.clock.random)
        self._limits = fetch_limits(self.clock.random, world.ahead_bytes)
        self._hot_limits = hot_limits(self.clock.random)
        self._ahead_limits = ahead_limits(self.clock.random)
        self.has_mirror = self.name in world.mirrored
        self._incarnation = 0

    @property
    def incarnation(self) -> int:
        """Number of this start, as others see it."""
        return self.core.identity.incarnation

    def start(self) -> None:
        """Starts with empty memory and a new incarnation."""
        self.begin()
        self._incarnation = max(self._incarnation + 1, int(self.clock.now_s * 1e6))
        identity = Register(
            instance=self.name,
            incarnation=self._incarnation,
            namespace=NAMESPACE,
            layout=LAYOUT,
            address=f"ipc://{self.name}",
        )
        region = Region((Segment(0, CHUNK_BYTES, CHUNK_BYTES),), self.num_slots)
        offer = ChannelOffer(channel="sim", metadata=b"", region=region)
        offers = (RankOffer(rank=0, channels=(offer,)),)
        world = self.world
        limits = LeaseLimits(
            ttl_s=world.lease_ttl_s, bytes_per_reader=world.lent_chunks_max * CHUNK_BYTES
        )
        hot = self._hot_limits
        self.core = InstanceCore(identity, offers, self.num_slots, limits=limits, hot=hot)
        self.core.feed._max_kept = world.max_kept_events
        if self.has_mirror:
            self.core.following = Following(self.core.membership, self.core.counters)
        self.pool = Pool(self.num_slots)
        self.is_ending = False
        self.callers: list[Caller] = []
        self.num_held = 0
        self.service = PeerService(self)
        self.engine = Engine(self, ReaderCore(self.core, self._limits, self._ahead_limits))
        watch_partings(self)
        self.bond = Bond(self)
        self.network.on_start(self)

    def answer(self, sender: Sender, body: bytes) -> Iterable[Outgoing]:
        """Returns the answer to a peer."""
        return self.service.answer(sender, body)

    def crash(self) -> None:
        """Everything is lost but for what it has done."""
        self.world.work.update(self.core.counters)
        super().crash()

    def read_always(self) -> None:
        """From now on, nothing that peers have is left to the engine."""
        self._limits = replace(self._limits, pull="always")
        self.engine.reader.limits = self._limits

    def leave(self) -> None:
        """Ends in order, as `P2PBackend.close` does, within half a second."""
        if not self.is_ending:
            self.is_ending = True
            self.core.membership.leave()
            self.bond.wake()
            self._wait(_ANNOUNCE_S, self.core.membership.is_leave_known, self._close)

    def _close(self) -> None:
        self.core.is_closing = True
        self.engine.reader.close(self.now_s())
        self.engine.turn()
        self._wait(_LEND_S, lambda: not self.core.is_lending, self._end)

    def _end(self) -> None:
        self.bond.say_farewell()
        self.crash()

    def _wait(
        self, limit_s: float, condition: Callable[[], bool], then: Callable[[], None]
    ) -> None:
        if limit_s <= 0 or condition():
            self.run("caller", then)
        else:
            again = partial(self._wait, limit_s - _LOOK_S, condition, then)
            self.later(_LOOK_S, "caller", "waits for its end", again)

    # ------------------------------------------------------------------ what callers do

    def put(self, keys: list[ChunkKey], tenant: str) -> None:
        """Stores own content under keys; copying takes time."""
        placements = self.core.begin_put(keys, tenant)
        self.bond.wake()
        for start in range(0, len(placements), 4):
            batch = placements[start : start + 4]
            delay_s = 0.0005 * (1 + start) * self.clock.random.random()
            self.later(delay_s, "caller", "fills", partial(self._fill, batch, tenant))

    def _fill(self, placements: list[Placement], tenant: str) -> None:
        for placement in placements:
            key, slot = placement.key, placement.slot
            content = self.world.truth.new_content(key, self.name)
            self.pool.fill(slot, content)
            entry = self.core.commit(placement, (self.pool.digest(key, slot),), tenant)
            if entry.slot == slot:
                self.pool.store(slot, Stored(key, content, entry.generation))
        self.bond.wake()

    def fill_pool(self, hold_s: float) -> None:
        """Stores as much as there is room for, and holds it for a while."""
        placements = self.core.begin_put(self.world.prompts.other(self.num_slots), "")
        self._fill(placements, "")
        entries = [e for p in placements if (e := self.core.index.get(p.key)) is not None]
        for entry in entries:
            self.core.index.pin(entry)
        self.num_held += 1
        self.later(hold_s, "caller", "releases", partial(self._release, entries))

    def fetch(self, keys: list[ChunkKey], tenant: str, budget_s: float) -> Fetch:
        """Starts a fetch."""
        self.world.num_fetches += 1
        now_s = self.now_s()
        fetch = self.engine.reader.submit(keys, tenant, budget_s, now_s)
        caller = Caller(
            fetch, keys, tenant, now_s + budget_s, self.clock.now_s + _longest(budget_s)
        )
        self.callers.append(caller)
        self.engine.take(lambda: None)
        if fetch.outcome is None:
            self.world.faults.on_phase(self, caller)
        else:
            self.settle()  # it was all here; a caller takes that though the engine is busy
        return fetch

    def hear_of(self) -> None:
        """A caller asks where something is, and the answer names some member."""
        members = self.core.membership.roster.known(self.now_s())
        if members and self.engine.reader.note_named([self.clock.random.choice(members)]):
            self.engine.take(lambda: None)

    def come(self, keys: list[ChunkKey], tenant: str, budget_s: float) -> None:
        """A caller comes, and fetches if it finds somebody."""
        if not self.is_ending:
            self.fetch(keys, tenant, budget_s)

    def settle(self) -> None:
        """Callers take what is delivered."""
        if any(caller.fetch.outcome is not None for caller in self.callers):
            settled = [caller for caller in self.callers if caller.fetch.outcome is not None]
            self.callers = [c for c in self.callers if c not in settled]
            for caller in settled:
                self._take(caller)
            self.bond.wake()

    def on_phase(self, fetch: Fetch, phase: Phase) -> None:
        """A fetch reached a phase, which faults may wait for."""
        for caller in self.callers:
            if caller.fetch is fetch:
                caller.phase = phase.value
                self.world.faults.on_phase(self, caller)

    def on_first_piece(self, read_id: ReadId) -> None:
        """Something of a read has arrived: its fetch is in the middle of the transfer."""
        fetch = self.engine.reader._fetch_by_read.get(read_id)
        if fetch is not None:
            self.on_phase(fetch, Phase.MID_TRANSFER)

    def content_under(self, key: ChunkKey) -> bytes | None:
        """Returns the bytes that were stored under a key and are here."""
        entry = self.core.index.get(key)
        stored = self.pool.stored(entry.slot, self.core.slots) if entry is not None else None
        return stored.content if stored is not None else None

    def _take(self, caller: Caller) -> None:
        outcome = caller.fetch.outcome
        require(outcome is not None, "no outcome")
        if outcome is None:
            return
        is_whole = outcome.reason is ShortReason.COMPLETE
        require(is_whole == (len(outcome.entries) == len(caller.keys)), "reason and length differ")
        for key, entry in zip(caller.keys, outcome.entries, strict=False):
            require(entry.key == key, "a chunk was delivered under another key")
            require(not entry.is_damaged, "a chunk known as damaged was delivered")
            is_allowed = bool({caller.tenant, ""} & set(entry.tenants))
            require(is_allowed, "a chunk of another tenant was delivered")
        self._check_bytes(outcome.entries)
        num, is_end = len(outcome.entries), outcome.reason in _END
        is_awaited = num in positions_under_way(caller.fetch) and not is_end
        require(not is_awaited, "a chunk was given up while it was being read")
        self._compute(len(caller.keys) - num)
        self.world.on_outcome(self, caller, outcome)
        self.num_held += 1
        entries = list(outcome.entries)
        hold_s = self.clock.random.choice([0.0, 0.02, 0.3]) * self.clock.random.random()
        self.later(hold_s, "caller", "releases", partial(self._release, entries))

    def _compute(self, num_chunks: int) -> None:
        """The engine computes what a fetch did not bring, and tells how long that took."""
        if num_chunks and self.compute_s:
            seconds = num_chunks * self.compute_s * self.clock.random.uniform(0.5, 1.5)
            self.core.prefill.note(num_chunks * LAYOUT.chunk_tokens, seconds, self.now_s())

    def _release(self, entries: list[IndexEntry]) -> None:
        self._check_bytes(entries)
        self.num_held -= 1
        for entry in entries:
            self.core.unpin(entry)

    def _check_bytes(self, entries: Iterable[IndexEntry]) -> None:
        for entry in entries:
            if entry.slot in self.pool.rotten:
                continue  # own memory failed after the chunk was stored: nobody can know
            stored = self.pool.stored(entry.slot, self.core.slots)
            same = stored is not None and stored.key == entry.key
            require(same, "a delivered chunk's slot is not its own")
            same = stored is not None and stored.content == self.pool.content(entry.slot)
            require(same, "a delivered chunk has wrong bytes")
            problem = self.world.truth.problem(entry.key, self.pool.content(entry.slot))
            require(not problem, f"a delivered chunk has wrong bytes: {problem}")

    # ------------------------------------------------------------------ invariants

    def check_cheap(self) -> None:
        """What holds after every step, while it is up."""
        if self.pool.writers:
            self.pool.check_writers(self.core.slots)
        if self.callers and not self.is_stopped and not self.engine.is_busy:
            now_s = self.now_s()
            was_free = self.clock.now_s > max(self.engine.free_since_s, self.went_on_s) + _LATE_S
            for caller in self.callers:
                is_late = was_free and now_s > caller.deadline_s + _LATE_S
                require(not is_late, "a fetch outlived its budget")
                is_late = was_free and self.clock.now_s > caller.true_deadline_s
                require(not is_late, "a fetch outlived its budget, in true time")

    def check_all(self) -> None:
        """What holds between steps, at more cost."""
        if not self.is_up:
            return
        self.core.check_integrity()
        self.service.check_fenced()
        if not self.is_stopped and not self.engine.is_busy:
            self._check_budgets()
        slots = self.core.slots
        for lease in self.core.leases._leases.values():
            for entry in lease.entries:
                is_here = self.core.index.get(entry.key) is entry or entry.is_damaged
                kept = is_here and entry.num_pins > 0
                require(kept, "a lent chunk left the index")
                require(slots.generation(entry.slot) == entry.generation, "a lent slot was reused")

    def _check_budgets(self) -> None:
        """What is fetched for peers ends in time, too."""
        now_s = self.now_s()
        was_free = self.clock.now_s > max(self.engine.free_since_s, self.went_on_s) + _LATE_S
        for fetch in self.engine.reader.fetches:
            is_late = was_free and fetch.outcome is None and now_s > fetch.deadline_s + _LATE_S
            require(not is_late, "a fetch for a peer outlived its budget")


def _longest(budget_s: float) -> float:
    """Returns a budget in true time, on the slowest clock that is allowed."""
    return budget_s / (1 - MAX_SKEW) + _LATE_S
