"""What goes wrong in a run, and when: by time, or at a named phase of a fetch.

Every fault ends by itself after a while; `heal` ends all of them.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from p2p.agent.slots import SlotState
from tests.sim.coverage import Cells
from tests.sim.pool import state_of
from tests.sim.transfers import Woes
from tests.sim.wire import Server

if TYPE_CHECKING:
    from tests.sim.instance import Caller, SimInstance
    from tests.sim.world import World

At = tuple["Caller", str] | None
ROLES = ("reader", "holder", "controller")
_WEIGHTS = {"crash": 4, "stop": 5, "cut": 5, "cut_in": 3, "cut_out": 3, "leave": 2, "rot": 3}
_AT_PHASE = 0.06
_CONTROLLER_SHARE = 0.12


class Coverage:
    """Counts which faults met which phases.

    Args:
        world: with the fetches.
    """

    def __init__(self, world: "World") -> None:
        self.cells: Cells = Cells()
        self._world = world

    def hit(self, fault: str, reader: str) -> None:
        """A fault met the fetches of one instance."""
        for caller in self._world.instances[reader].callers if self._has(reader) else ():
            self.cells[fault, caller.phase] += 1

    def hit_process(self, fault: str, victim: str, at: "At" = None) -> None:
        """A fault met a process, in each of its roles; at a phase that a fetch just reached."""
        for name, instance in self._world.instances.items():
            if not instance.is_up:
                continue
            for caller in instance.callers:
                role = self._role(victim, name, caller)
                if role:
                    phase = at[1] if at and at[0] is caller else caller.phase
                    self.cells[f"{fault}_{role}", phase] += 1

    def _has(self, reader: str) -> bool:
        return reader in self._world.instances and self._world.instances[reader].is_up

    def _role(self, victim: str, reader: str, caller: "Caller") -> str:
        if victim == "controller":
            return "controller"
        if victim == reader:
            return "reader"
        return "holder" if victim in caller.holders else ""


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
        self._kinds = list(_WEIGHTS)

    def start(self) -> None:
        """Begins to inject."""
        if self.is_on:
            wait_s = self._clock.random.expovariate(1 / self._mean_s)
            self._clock.after(wait_s, "fault", self._by_time)

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
        if not self.is_on or not self._clock.chance(_AT_PHASE):
            return
        role = self._clock.random.choice(ROLES)
        holders = caller.holders
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
        kind = draw.choices(self._kinds, list(_WEIGHTS.values()))[0]
        if victim is self._world.controller and kind in {"leave", "rot"}:
            kind = "crash"
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
            case "leave" | "rot":
                self._hurt_instance(kind, victim)
            case _:
                self._cut(kind, victim.name)

    def _hurt_instance(self, kind: str, victim: Server) -> None:
        instance = self._world.instances.get(victim.name)
        if instance is None:
            return
        if kind == "leave" and not instance.is_stopped:
            instance.leave()
            self._later(self._clock.random.uniform(0.01, 0.8), partial(self._revive, victim))
        elif kind == "rot":
            slots = range(instance.num_slots)
            ready = [s for s in slots if state_of(instance.core.slots, s) is SlotState.READY]
            for slot in ready:
                if slot not in instance.pool.writers and self._clock.chance(0.3):
                    instance.pool.rot(slot)

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
