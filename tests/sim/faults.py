"""What goes wrong in a run, and when: by time, or at a named phase of a fetch.

Every fault ends by itself after a while; `heal` ends all of them.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from p2p.agent.slots import SlotState
from p2p.backend.actions import Phase
from tests.sim.coverage import AT_ANY, AT_INSTANCES, BEFORE_LOCATE, At
from tests.sim.drains import Drain
from tests.sim.pool import state_of
from tests.sim.transfers import Woes
from tests.sim.wire import Server

if TYPE_CHECKING:
    from tests.sim.instance import Caller, SimInstance
    from tests.sim.world import World

ROLES = ("reader", "holder", "controller")
KINDS = (*AT_ANY, *AT_INSTANCES)
_AT_PHASE = {
    BEFORE_LOCATE: 0.05,
    Phase.AFTER_LOCATE.value: 0.08,
    Phase.AFTER_LEASE.value: 0.1,
    Phase.MID_TRANSFER.value: 0.12,
    Phase.BEFORE_VERIFY.value: 0.45,
    Phase.AFTER_COMMIT.value: 0.25,
}
_AT_GUESS = 0.5  # a holder is known before the directory was asked, which is rare
_AT_READS = {Phase.BEFORE_VERIFY.value: 0.6}
_AT_READS_ELSE = 0.3
_CONTROLLER_SHARE = 0.12
_FALSE_START_IN = 8  # seeds; which ones is no chance, so that the others stay as they are
_FALSE_START_S, _FALSE_STARTS_APART_S, _HEARD_AFTER_S = 1.0, 0.01, 0.3
_ROTTEN_SHARE = 0.3


class Faults:
    """Injects faults.

    Args:
        world: to be hurt.
        mean_s: time between faults, 0 for none.
    """

    def __init__(self, world: "World", mean_s: float) -> None:
        self.is_on = mean_s > 0
        self._world = world
        self._clock = world.clock
        self._mean_s = mean_s

    def start(self) -> None:
        """Begins to inject."""
        if self.is_on:
            wait_s = self._clock.random.expovariate(1 / self._mean_s)
            self._clock.after(wait_s, "fault", self._by_time)

    def plan_false_start(self, seed: int) -> None:
        """In some runs somebody starts twice within a moment, and the first start is heard last."""
        if self.is_on and seed % _FALSE_START_IN == _FALSE_START_IN - 1:
            victim = list(self._world.instances.values())[seed % len(self._world.instances)]
            work = partial(self._false_start, victim)
            self._clock.after(_FALSE_START_S, "fault", work)

    def _false_start(self, victim: "SimInstance") -> None:
        if not victim.is_up or not self.is_on:
            return
        self._clock.note(f"false start {victim.name}")
        victim.crash()
        victim.start()
        self._world.network.hold(victim.name, _HEARD_AFTER_S)
        victim.crash()
        self._later(_FALSE_STARTS_APART_S, partial(self._revive, victim))

    def heal(self) -> None:
        """Ends every fault; everybody runs."""
        self.is_on = False
        self._world.network.heal_all()
        self._world.woes = Woes(steps_s=(0.0002,))
        for server in self._servers():
            self._revive(server)
            server.go_on()

    def on_phase(self, instance: "SimInstance", caller: "Caller") -> None:
        """A fetch reached a phase: perhaps something happens just then."""
        self._world.coverage.note_conditions(instance, caller)
        probability = _AT_PHASE[caller.phase] if self.is_on else 0.0
        if self._clock.chance(probability):
            self._world.network.disturb(instance.name)
        if self.is_on and self._clock.chance(_AT_READS.get(caller.phase, _AT_READS_ELSE)):
            instance.engine.curse_read()
        if self.is_on and caller.phase == BEFORE_LOCATE and caller.holders:
            probability = _AT_GUESS
        if self._clock.chance(probability):
            self._hurt_somebody(instance, caller)

    def _hurt_somebody(self, instance: "SimInstance", caller: "Caller") -> None:
        role = self._clock.random.choice(ROLES)
        holders = caller.holders
        if caller.phase == BEFORE_LOCATE and holders:
            role = "holder"
        victim: Server = instance
        if role == "controller":
            victim = self._world.controller
        elif role == "holder" and holders:
            victim = self._world.instances[self._clock.random.choice(holders)]
        at = (caller, caller.phase)
        self._clock.after(0.0, f"fault at {caller.phase}", partial(self._hurt, victim, at))

    def _by_time(self) -> None:
        if self.is_on:
            draw = self._clock.random
            victim: Server = draw.choice(list(self._world.instances.values()))
            if draw.random() < _CONTROLLER_SHARE:
                victim = self._world.controller
            self._hurt(victim)
            self.start()

    def _servers(self) -> list[Server]:
        return [*self._world.instances.values(), self._world.controller]

    def _hurt(self, victim: Server, at: At = None) -> None:
        if not victim.is_up or not self.is_on:
            return
        draw = self._clock.random
        kind = draw.choice(AT_ANY if victim is self._world.controller else KINDS)
        self._clock.note(f"{kind} {victim.name}")
        self._world.coverage.hit_process(kind, victim.name, at)
        match kind:
            case "crash":
                victim.crash()
                longest_s = draw.choice([0.02, 0.8])
                self._later(draw.uniform(0.001, longest_s), partial(self._revive, victim))
            case "stop":
                victim.stand_still()
                longest_s = draw.choice([0.1, 0.6, 2.5])
                self._later(draw.uniform(0.02, longest_s), victim.go_on)
            case "leave" | "drain" | "rot" | "fill":
                self._hurt_instance(kind, self._world.instances[victim.name])
            case _:
                self._cut(kind, victim.name)

    def _hurt_instance(self, kind: str, instance: "SimInstance") -> None:
        draw = self._clock.random
        match kind:
            case "leave":
                self.leave(instance)
            case "drain":
                limit_s = draw.choice([0.05, 0.4, 2.0])
                instance.run("caller", partial(self._drain, instance, limit_s))
            case "fill":
                hold_s = draw.uniform(0.02, 0.6)
                instance.run("caller", partial(instance.fill_pool, hold_s))
            case _:
                rot(instance, _ROTTEN_SHARE)

    def _drain(self, instance: "SimInstance", limit_s: float) -> None:
        if not instance.is_ending:
            Drain(instance, limit_s, partial(self.leave, instance))

    def see_off_drained(self) -> None:
        """Who has given its chunks away leaves, and comes again."""
        for instance in self._world.instances.values():
            if instance.core.handover is not None:
                self.leave(instance)

    def leave(self, instance: "SimInstance") -> None:
        """An instance leaves, and comes again after a while."""
        if instance.is_up and not instance.is_stopped and not instance.is_ending:
            instance.leave()
            wait_s = self._clock.random.uniform(0.01, 0.8)
            self._later(wait_s, partial(self._revive_once_left, instance))

    def _revive_once_left(self, instance: "SimInstance") -> None:
        if instance.is_up and instance.is_ending:
            self._later(0.05, partial(self._revive_once_left, instance))
        else:
            self._revive(instance)

    def _cut(self, kind: str, name: str) -> None:
        draw, network = self._clock.random, self._world.network
        others = [server.name for server in self._servers() if server.name != name]
        cut_off = draw.sample(others, draw.randint(1, len(others)))
        swallows = draw.random() < 0.5
        seconds = draw.uniform(0.02, draw.choice([0.1, 1.5]))
        for other in cut_off:
            ways = [] if kind == "cut_in" else [(name, other)]
            ways += [] if kind == "cut_out" else [(other, name)]
            for source, target in ways:
                network.cut(source, target, swallows)
                self._later(seconds, partial(network.heal, source, target))

    def _revive(self, victim: Server) -> None:
        if not victim.is_up:
            victim.start()

    def _later(self, delay_s: float, work: Callable[[], None]) -> None:
        self._clock.after(delay_s, "heals", work)


def rot(instance: "SimInstance", share: float) -> None:
    """Damages some of the chunks that an instance keeps."""
    slots = range(instance.num_slots)
    ready = [s for s in slots if state_of(instance.core.slots, s) is SlotState.READY]
    for slot in ready:
        if slot not in instance.pool.writers and instance.clock.chance(share):
            instance.pool.rot(slot)
