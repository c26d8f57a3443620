"""The simulated cluster: a controller and instances; load and faults, then quiet, a verdict."""

import functools
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from unittest import mock

from p2p.agent.slots import SlotState
from p2p.backend.actions import FetchOutcome, ShortReason
from p2p.backend.feed import Snapshot
from p2p.backend.following import Following
from p2p.backend.membership import BondState
from p2p.keys import ChunkKey
from tests.sim.clock import START_S, Clock, require
from tests.sim.controller import SimController
from tests.sim.coverage import Coverage
from tests.sim.farewell import see_off
from tests.sim.faults import Faults
from tests.sim.instance import Caller, SimInstance
from tests.sim.network import Network, Profile
from tests.sim.operators import Operators
from tests.sim.pool import CHUNK_BYTES
from tests.sim.transfers import Fate, Woes
from tests.sim.truth import Truth
from tests.sim.workload import Prompts

ACTIVE_S = 3.0
QUIET_S = 12.0
SETTLE_S = 3.0
PATIENCE_S = 5.0
_BACKOFF_MAX_S = 4.0  # a peer that was down is tried again by then
_CROWD = 0.08  # that somebody's step is one of many
_NAMES = tuple(f"i{number}" for number in range(8))
_ROOMY = 0.3
_NUM_MIN_FETCHES = 20
_NUM_FIRST_PUTS = 8
_CLEAR = 0.004  # that somebody drops everything that is not lent, between two steps
_HEAR = 0.1  # that somebody has asked where a prompt is, before a fetch
_OPERATE = 0.07  # that an operator asks for something, between two steps
_NUM_TRIES = 3.0
_ADVERTISE_S = 0.1
_NUM_LAST = 5  # prompts that everybody fetches when all is healed
_CHECK_EVERY = 200


class World:
    """One seeded run.

    Args:
        seed: of everything.
        keeps_trace: keep every event, for reading.
    """

    def __init__(self, seed: int, keeps_trace: bool = False) -> None:
        self.seed = seed
        self.clock = Clock(seed, keeps_trace)
        draw = self.clock.random
        self.coverage = Coverage(self)
        self.truth = Truth()
        self.instances: dict[str, SimInstance] = {}
        self.network = Network(self.clock, _profile(self.clock), self.coverage.hit)
        self.woes = _woes(self.clock)
        self.lease_ttl_s = draw.choice([0.04, 0.12, 0.5, 10.0])
        self.max_kept_events = draw.choice([8, 40, 1 << 20])
        self.ahead_bytes = draw.choice([0, 4, 12]) * CHUNK_BYTES
        self.mirrored = _NAMES[: seed % 4] if seed % 2 else ()
        self.lent_chunks_max = draw.choice([3, 24, 24])
        self.num_steps = 0
        self.num_fetches = 0
        self.lengths: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.work: Counter[str] = Counter()
        self.prompts = Prompts(draw)
        self.faults = Faults(self, draw.choice([0.0, 0.15, 0.15, 0.4]))
        self.operators = Operators(self)
        self.controller = SimController(self.network, self.operators.on_reply)
        for name, num_slots in zip(_NAMES, _pool_sizes(self.clock), strict=False):
            self.instances[name] = SimInstance(self, name, num_slots)
        for instance in self.instances.values():
            instance.start()

    # ------------------------------------------------------------------ a run

    def run(self) -> None:
        """Load and faults, then quiet, then everything must be whole again."""
        with small_batches():
            self._step()
            self.faults.start()
            self.faults.plan_false_start(self.seed)
            self.run_for(ACTIVE_S)
            self.faults.heal()
            self.run_for(QUIET_S)
            self.check_quiet()
            self.faults.see_off_drained()
            self.run_for(PATIENCE_S)
            self._fetch_everything()
            self.run_for(SETTLE_S)
            self.check_quiet()
            see_off(self)
            self.run_for(SETTLE_S + self.lease_ttl_s)  # nobody gives back what it was lent
            self.check_quiet()

    def done(self) -> dict[str, int]:
        """Returns how much of everything the instances have done."""
        work = Counter(self.work)
        for instance in self.instances.values():
            if instance.is_up:
                work.update(instance.core.counters)
        return dict(work)

    def on_outcome(self, instance: SimInstance, caller: Caller, outcome: FetchOutcome) -> None:
        """Counts what a fetch brought."""
        num, num_asked = len(outcome.entries), len(caller.keys)
        self.reasons[outcome.reason.value] += 1
        self.lengths["full" if num == num_asked else "partial" if num else "missed"] += 1
        text = f"{instance.name} got {num} of {num_asked}: {outcome.reason.value}"
        self.clock.note(f"{text} {outcome.detail}")

    def _step(self) -> None:
        draw = self.clock.random
        is_active = self.clock.now_s < START_S + ACTIVE_S
        if not is_active and self.num_fetches >= _NUM_MIN_FETCHES:
            return
        instance = draw.choice(list(self.instances.values()))
        keys, tenant = self.prompts.choose()
        budget_s = draw.choice([0.03, 0.15, 0.6, 1.5])
        if draw.random() < _CROWD:
            self.crowd(self.instances.values(), keys, tenant, budget_s)
        is_put = draw.random() < (0.3 if self.num_steps > _NUM_FIRST_PUTS else 0.8)
        self.num_steps += 1
        if instance.is_up and not instance.is_ending:
            if is_put:
                work = functools.partial(instance.put, keys, tenant)
            else:
                work = functools.partial(self._fetch_some, instance, keys, tenant, budget_s)
            instance.run("caller", work)
        if draw.random() < _CLEAR:
            self.controller.ask_clear()
        if is_active and draw.random() < _OPERATE:
            self.operators.ask()
        self.clock.after(draw.uniform(0.005, 0.06), "workload", self._step)

    def crowd(
        self, readers: Iterable[SimInstance], keys: list[ChunkKey], tenant: str, budget_s: float
    ) -> None:
        """Many fetch the same, within a moment."""
        for instance in readers:
            if instance.is_up and not instance.is_ending:
                wait_s = self.clock.random.uniform(0.0, 0.05)
                fetch = functools.partial(instance.come, keys, tenant, budget_s)
                instance.later(wait_s, "caller", "comes in a crowd", fetch)

    def _fetch_some(
        self, instance: SimInstance, keys: list[ChunkKey], tenant: str, budget_s: float
    ) -> None:
        """Starts a fetch, and sometimes others at the same moment."""
        if self.clock.chance(_HEAR):
            instance.hear_of()
        instance.fetch(keys, tenant, budget_s)
        for _ in range(self.clock.random.choice([0, 0, 0, 2])):
            instance.fetch(*self.prompts.choose(), budget_s)

    def run_for(self, seconds: float) -> None:
        """Lets time pass."""
        self.clock.run_until(self.clock.now_s + seconds, self._after_each)

    # ------------------------------------------------------------------ invariants

    def _after_each(self) -> None:
        for instance in self.instances.values():
            if instance.is_up and (instance.callers or instance.pool.writers):
                instance.check_cheap()
        if self.clock.num_events % _CHECK_EVERY == 0:
            self.check_all()

    def check_all(self) -> None:
        """What holds at every moment, at some cost."""
        for instance in self.instances.values():
            instance.check_all()
        if self.network.profile.keeps_order:
            drifts = self.controller.core._state.counters["drifts"]
            require(drifts == 0, "directory and index drifted apart, though both are up to date")

    def check_quiet(self) -> None:
        """What holds when nothing is under way."""
        self.check_all()
        for name, instance in self.instances.items():
            core = instance.core
            require(len(core.leases) == 0, f"{name} still lends")
            require(not instance.engine.reader.fetches, f"{name} has unfinished fetches")
            require(not instance.callers, f"{name} has waiting callers")
            require(instance.num_held == 0, f"{name} holds results")
            require(core.slots.count(SlotState.QUARANTINED) == 0, f"{name} has quarantine left")
            require(core.slots.count(SlotState.FILLING) == 0, f"{name} lost a slot")
            require(all(e.num_pins == 0 for e in core.index), f"{name} lost a pin")
            require(not instance.pool.writers, f"{name} is still written")
            require(core.index.num_kept == 0, f"{name} keeps chunks for longer than it was told")
            self._check_advertised(name, instance)
            if instance.core.following is not None:
                self._check_mirror(name, instance.core.following, instance.now_s())

    def _check_mirror(self, name: str, following: Following, now_s: float) -> None:
        require(following.is_current(now_s), f"the mirror of {name} is not current")
        for other in self.instances:
            mine = following.mirror.entries_of(other)
            theirs = self.controller.core.entries_of(other)
            require(mine == theirs, f"the mirror of {name} differs in {other}")

    def _check_advertised(self, name: str, instance: SimInstance) -> None:
        membership = instance.core.membership
        state = membership.state
        require(state is BondState.BONDED, f"the bond of {name} is {state.value}")
        require(membership.is_advertised(), f"{name} is not advertised")
        entries = list(instance.core.index)
        tier = instance.core.feed.tier.value
        here = {(tenant, entry.key): tier for entry in entries for tenant in entry.tenants}
        there = self.controller.core.entries_of(name)
        numbers = f"{len(here.keys() - there)} missing, {len(there.keys() - here)} too many"
        require(here == there, f"the directory's picture of {name} differs: {numbers}")

    def _fetch_everything(self) -> None:
        """When all is healed, what one instance holds another can fetch."""
        for instance in self.instances.values():
            instance.read_always()
        for name, instance in self.instances.items():
            for keys, tenant in self.clock.random.sample(self.prompts.prompts, _NUM_LAST):
                self._fetch_whole(name, instance, keys, tenant)

    def _fetch_whole(
        self, name: str, instance: SimInstance, keys: list[ChunkKey], tenant: str
    ) -> None:
        tries, problem = _NUM_TRIES, "nothing was tried"
        while tries > 0:
            held = [self._num_held(other, keys, tenant) for other in self.instances.values()]
            wanted = keys[: min(max(held), instance.num_slots)]
            foreign = [e for k in wanted if (e := instance.core.index.get(k)) is not None]
            if not wanted or any(not entry.is_readable_by(tenant) for entry in foreign):
                return  # an index keeps a key for one tenant only
            outcome = self._fetch_now(instance, wanted, tenant)
            if outcome is None or len(outcome.entries) == len(wanted):
                require(outcome is not None, f"{name}: a fetch has no end")
                return
            # each try may find one damaged chunk, which its holder drops then
            tries -= 0.1 if outcome.reason is ShortReason.DIGEST_MISMATCH else 1
            problem = f"{outcome.reason.value} {outcome.detail}, got {len(outcome.entries)}"
            self.run_for(_ADVERTISE_S)  # the directory may not know yet who has it now
        require(False, f"{name} cannot fetch a prompt after healing: {problem}")

    def _fetch_now(
        self, instance: SimInstance, keys: list[ChunkKey], tenant: str
    ) -> FetchOutcome | None:
        fetch, end_s = instance.fetch(keys, tenant, 2.0), self.clock.now_s + 2.5
        while (fetch.outcome is None or instance.num_held) and self.clock.now_s < end_s:
            self.run_for(0.05)
        return fetch.outcome

    def _num_held(self, holder: SimInstance, keys: list[ChunkKey], tenant: str) -> int:
        return len(holder.core.index.prefix(keys, tenant))


@contextmanager
def small_batches() -> Iterator[None]:
    """Batches and pages of a few events, so that windows and gaps matter."""
    with (
        mock.patch.object(Snapshot, "PAGE_EVENTS", 6),
        mock.patch("p2p.backend.membership.MAX_BATCH_EVENTS", 5),
        mock.patch("p2p.backend.handshake._BACKOFF_MAX_S", _BACKOFF_MAX_S),
    ):
        yield


def _pool_sizes(clock: Clock) -> list[int]:
    """Returns the slots of every instance; sometimes the first has little and all others much."""
    draw = clock.random
    num_instances = draw.randint(3, len(_NAMES))
    if draw.random() < _ROOMY:
        others = [draw.choice([64, 96]) for _ in range(num_instances - 1)]
        return [draw.choice([8, 24, 48]), *others]
    return [draw.choice([8, 24, 48, 64]) for _ in range(num_instances)]


def _profile(clock: Clock) -> Profile:
    """A quiet network, one of TCP connections that break, or one that does what it likes."""
    draw = clock.random
    kind = draw.choice(["quiet", "tcp", "tcp", "wild"])
    delay_s = draw.choice([0.001, 0.004, 0.03, 0.06])
    if kind == "quiet":
        return Profile(delay_s)
    spike = draw.choice([0.0, 0.03])
    if kind == "tcp":
        kinds: tuple[str, ...] = ("connection", "delay")
        return Profile(delay_s, spike, drop=draw.choice([0.0, 0.01, 0.04]), kinds=kinds)
    loss, double = draw.choice([0.0, 0.03, 0.1]), draw.choice([0.0, 0.03])
    kinds = ("loss", "double", "delay")
    return Profile(delay_s, spike, loss=loss, double=double, keeps_order=False, kinds=kinds)


def _woes(clock: Clock) -> Woes:
    level = clock.random.choice([0.0, 0.02, 0.06])
    slow_links = clock.random.choice([0.0, 0.1, 0.3])
    by_fate = dict.fromkeys(Fate, level)
    by_fate[Fate.NONE] = 1 - level * (len(Fate) - 1)
    needs_holder = clock.random.random() < 0.5
    return Woes(by_fate if level else {}, needs_holder, slow_links=slow_links)
