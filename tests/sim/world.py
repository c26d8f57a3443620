"""The simulated cluster: a controller, instances, faults, and the invariants of the design."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from p2p.agent.slots import SlotState
from p2p.keys import ChunkKey, chunk_keys, join_keys
from p2p.wire.codec import RequestId, encode_body
from p2p.wire.decoders import CONTROLLER_REQUESTS
from p2p.wire.exchange import Sender
from p2p.wire.messages import Locate, Located, Message
from p2p_controller.core import ControllerCore
from p2p_controller.settings import ControllerSettings
from tests.sim.clock import Network, SimClock
from tests.sim.instance import LAYOUT, NAMESPACE, SimInstance

_SETTINGS = ControllerSettings(heartbeat_s=0.1, silent_after_s=0.5, forget_after_s=2, recovery_s=1)
_RUN_S = 6.0
_QUIET_S = 8.0


class InvariantError(AssertionError):
    """A promise of the design was broken."""


@dataclass(frozen=True)
class Report:
    """What one run did."""

    seed: int
    events: int
    fetches: int
    outcomes: dict[str, int]
    problem: str = ""


class World:
    """One seeded run."""

    def __init__(self, seed: int, num_instances: int = 3) -> None:
        self.seed = seed
        self.clock = SimClock(seed)
        draw = self.clock.random
        self.network = Network(self.clock, loss=draw.choice([0.0, 0.01, 0.1]))
        self.slow_reads = draw.choice([0.0, 0.05, 0.2])
        self.flips = draw.choice([0.0, 0.0, 0.05])
        self.num_fetches = 0
        self.outcomes: Counter[str] = Counter()
        self._epoch = 0
        self.start_controller()
        prompts = [[0] * 8 + [branch] * 40 for branch in range(6)]
        self.prompts = [chunk_keys(tokens, LAYOUT.chunk_tokens) for tokens in prompts]
        self.instances: dict[str, SimInstance] = {}
        for number in range(num_instances):
            name = f"i{number}"
            self.instances[name] = SimInstance(self, name, draw.choice([16, 24, 64]))

    def check(self, holds: bool, problem: str) -> None:
        """Ends the run if an invariant does not hold."""
        if not holds:
            raise InvariantError(problem)

    def start_controller(self) -> None:
        """A controller that knows nothing."""
        self._epoch += 1
        self.controller = ControllerCore(_SETTINGS, self._epoch)

    def ask_controller(
        self, asker: SimInstance, message: Message, answered: Callable[[bytes], None]
    ) -> None:
        """Sends a request to the controller that is there when it arrives."""
        body, life = encode_body(message), asker.life

        def arrive() -> None:
            sender = Sender(asker.name.encode(), RequestId(1))
            request = CONTROLLER_REQUESTS.decode(body)
            for outgoing in self.controller.handle(sender, request, self.clock.now_s):
                answer = encode_body(outgoing.message)
                self.network.send("controller", asker.name, partial(take, answer))

        def take(answer: bytes) -> None:
            if asker.is_up and asker.life == life:
                answered(answer)

        self.network.send(asker.name, "controller", arrive)

    # ------------------------------------------------------------------ a run

    def run(self) -> None:
        """Load and faults, then quiet, then everything must be whole again."""
        self.clock.after(0.05, self._sweep)
        self._next_step()
        self.clock.run_until(1000.0 + _RUN_S, self.check_cores)
        self.network.loss, self.slow_reads, self.flips = 0.0, 0.0, 0.0
        self.network.cut.clear()
        for instance in self.instances.values():
            if not instance.is_up:
                instance.start()
        self.clock.run_until(1000.0 + _RUN_S + _QUIET_S, self.check_cores)
        self.check_quiet()

    def _sweep(self) -> None:
        self.controller.tick(self.clock.now_s)
        self.clock.after(0.05, self._sweep)

    def _next_step(self) -> None:
        if self.clock.now_s < 1000.0 + _RUN_S:
            self.clock.after(self.clock.random.uniform(0.01, 0.1), self._step)

    def _step(self) -> None:
        draw = self.clock.random
        instance = draw.choice(list(self.instances.values()))
        keys = draw.choice(self.prompts)[: draw.randint(1, 12)]
        kind = draw.choices(
            ["put", "fetch", "crash", "cut", "controller"], weights=[25, 60, 3, 3, 1]
        )[0]
        if kind == "controller":
            self.start_controller()
        elif kind == "cut":
            self._cut(instance.name)
        elif kind == "crash" and instance.is_up:
            instance.crash()
            self.clock.after(draw.uniform(0.05, 1.0), lambda: self._revive(instance))
        elif instance.is_up and kind == "put":
            instance.put(keys)
        elif instance.is_up and kind == "fetch":
            instance.fetch(keys, draw.choice([0.05, 0.5, 2.0]))
        self._next_step()

    def _cut(self, name: str) -> None:
        self.network.cut.add(name)
        heal_s = self.clock.random.uniform(0.05, 1.0)
        self.clock.after(heal_s, lambda: self.network.cut.discard(name))

    def _revive(self, instance: SimInstance) -> None:
        if not instance.is_up:
            instance.start()

    # ------------------------------------------------------------------ invariants

    def check_cores(self) -> None:
        """What holds at every moment."""
        for instance in self.instances.values():
            if instance.is_up:
                instance.core.check_integrity()

    def check_quiet(self) -> None:
        """What holds when nothing is under way."""
        self.check_cores()
        for name, instance in self.instances.items():
            core = instance.core
            self.check(len(core.leases) == 0, f"{name} still lends")
            self.check(not instance.reader.fetches, f"{name} has unfinished fetches")
            self.check(core.slots.count(SlotState.QUARANTINED) == 0, f"{name} has quarantine")
            self.check(core.slots.count(SlotState.FILLING) == 0, f"{name} lost a slot")
            self.check(all(entry.num_pins == 0 for entry in core.index), f"{name} lost a pin")
            self.check(core.membership.is_advertised(), f"{name} is not advertised")
        for keys in self.prompts:
            for key in keys:
                expected = {n for n, i in self.instances.items() if i.core.index.get(key)}
                found = self._holders(key)
                self.check(found == expected, f"the directory says {found}, it is {expected}")

    def _holders(self, key: ChunkKey) -> set[str]:
        blob, key_bytes = join_keys([key])
        question = Locate(namespace=NAMESPACE.id, keys=blob, key_bytes=key_bytes)
        sender = Sender(b"test", RequestId(1))
        (outgoing,) = self.controller.handle(sender, question, self.clock.now_s)
        assert isinstance(outgoing.message, Located)
        return {holder.instance for holder in outgoing.message.holders}


def run_seed(seed: int) -> Report:
    """Runs one seed to its end, or to the first broken promise."""
    world, problem = World(seed), ""
    try:
        world.run()
    except AssertionError as error:
        problem = str(error) or type(error).__name__
    return Report(seed, world.clock.num_events, world.num_fetches, dict(world.outcomes), problem)
