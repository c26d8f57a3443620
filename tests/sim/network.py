"""The simulated network: connections between processes that carry encoded messages.

By default a connection keeps its order, as TCP does, and what is lost is lost with the connection.
A profile may also lose, double and overtake single messages. A cut holds back or swallows what
goes one way between two processes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from tests.sim.clock import Clock
from tests.sim.process import Process

Seen = Callable[[str, str], None]


@dataclass(slots=True)
class Profile:
    """How bad a network is; probabilities are per message.

    Attributes:
        delay_s: longest usual delay.
        spike: of a delay up to ``spike_s``.
        drop: that the connection breaks and everything on its way is lost.
        loss: of this message alone.
        double: that it arrives twice.
        keeps_order: of one connection's messages.
        kinds: what `disturb` may do.
    """

    delay_s: float = 0.002
    spike: float = 0.0
    spike_s: float = 0.15
    drop: float = 0.0
    loss: float = 0.0
    double: float = 0.0
    keeps_order: bool = True
    kinds: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Connection:
    """A client's socket to a server's address, whoever listens there.

    Attributes:
        drops: how often it broke; what was sent before the last time is lost.
        due_s: when the last message arrives, by target.
        held_until_s: nothing arrives before.
    """

    client: Process
    server: Process
    client_life: int
    is_open: bool = True
    drops: int = 0
    due_s: dict[str, float] = field(default_factory=dict)
    held_until_s: float = 0.0

    def accepts(self, target: Process) -> bool:
        """True if somebody is there who would read what arrives."""
        if target is self.client:
            return self.is_open and target.is_up and target.life == self.client_life
        return target.is_up


@dataclass(slots=True, eq=False)
class Parcel:
    """One message on its way."""

    connection: Connection
    source: Process
    target: Process
    label: str
    deliver: Callable[[], None]
    drops: int
    is_lost: bool = False


class Network:
    """Carries parcels.

    Args:
        clock: the true time.
        on_fault: told the name of each fault and the client that it hit.
    """

    def __init__(self, clock: Clock, profile: Profile, on_fault: Seen) -> None:
        self.profile = profile
        self.clock = clock
        self._on_fault = on_fault
        self._cuts: dict[tuple[str, str], bool] = {}  # true if it swallows
        self._held: list[Parcel] = []
        self._flying: dict[Parcel, None] = {}
        self._num_routes = 0

    def connect(self, client: Process, server: Process) -> Connection:
        """Returns a new connection; it becomes one whenever the server is there."""
        return Connection(client, server, client.life)

    def new_route(self) -> bytes:
        """Returns what a server calls a client's socket."""
        self._num_routes += 1
        return f"route {self._num_routes}".encode()

    def send(
        self, connection: Connection, target: Process, label: str, deliver: Callable[[], None]
    ) -> None:
        """Sends a message over a connection, in either direction."""
        source = connection.client if target is connection.server else connection.server
        label = f"{source.name}>{target.name} {label}"
        parcel = Parcel(connection, source, target, label, deliver, connection.drops)
        profile, clock, client = self.profile, self.clock, connection.client.name
        if clock.chance(profile.loss):
            self._on_fault("loss", client)
            clock.note(f"lost {label}")
            return
        if clock.chance(profile.drop):
            self._on_fault("connection", client)
            clock.note(f"broke {label}")
            connection.drops += 1
            return
        if clock.chance(profile.double):
            self._on_fault("double", client)
            self._post(parcel)
        self._post(parcel)

    def disturb(self, client: str) -> None:
        """What this network does to messages happens now to one that is on its way."""
        clock, kinds = self.clock, self.profile.kinds
        flying = [p for p in self._flying if p.connection.client.name == client and not p.is_lost]
        if not flying or not kinds:
            return
        kind, parcel = clock.random.choice(kinds), clock.random.choice(flying)
        self._on_fault(kind, client)
        clock.note(f"{kind} {parcel.label}")
        match kind:
            case "loss":
                parcel.is_lost = True
            case "double":
                self._post(parcel)
            case "connection":
                parcel.connection.drops += 1
            case _:
                wait_s = clock.random.uniform(0.02, self.profile.spike_s)
                parcel.connection.held_until_s = clock.now_s + wait_s

    def hold(self, client: str, seconds: float) -> None:
        """What somebody has just sent is on its way for long, even if its sender is gone."""
        for parcel in self._flying:
            if parcel.source.name == client:
                parcel.connection.held_until_s = self.clock.now_s + seconds

    def cut(self, source: str, target: str, swallows: bool) -> None:
        """From now on nothing gets from one process to the other."""
        self._cuts[source, target] = swallows

    def heal(self, source: str, target: str) -> None:
        """What was held back arrives."""
        self._cuts.pop((source, target), None)
        held, self._held = self._held, []
        for parcel in held:
            self._arrive(parcel)

    def heal_all(self) -> None:
        """Ends every cut and every fault."""
        self.profile = Profile()
        for source, target in list(self._cuts):
            self.heal(source, target)

    def is_cut(self, one: str, other: str) -> bool:
        """True if bytes cannot flow between two processes."""
        return (one, other) in self._cuts or (other, one) in self._cuts

    def on_start(self, process: Process) -> None:
        """Somebody listens at an address again: what waited there arrives."""
        self.heal(process.name, process.name)

    def _post(self, parcel: Parcel) -> None:
        profile, draw = self.profile, self.clock.random
        delay_s = draw.uniform(0.0001, profile.delay_s)
        if self.clock.chance(profile.spike):
            self._on_fault("delay", parcel.connection.client.name)
            delay_s = draw.uniform(profile.delay_s, profile.spike_s)
        when_s, due_s = self.clock.now_s + delay_s, parcel.connection.due_s
        if profile.keeps_order:
            when_s = max(when_s, due_s.get(parcel.target.name, 0.0))
            due_s[parcel.target.name] = when_s
        elif when_s < due_s.get(parcel.target.name, 0.0):
            self._on_fault("reorder", parcel.connection.client.name)
        else:
            due_s[parcel.target.name] = when_s
        self._fly(parcel, when_s)

    def _fly(self, parcel: Parcel, when_s: float) -> None:
        self._flying[parcel] = None
        self.clock.at(when_s, parcel.label, partial(self._arrive, parcel))

    def _arrive(self, parcel: Parcel) -> None:
        connection = parcel.connection
        self._flying.pop(parcel, None)
        if parcel.is_lost or parcel.drops != connection.drops:
            return
        if connection.held_until_s > self.clock.now_s:
            self._fly(parcel, connection.held_until_s)
            return
        swallows = self._cuts.get((parcel.source.name, parcel.target.name))
        if swallows is not None:
            if not swallows:
                self._held.append(parcel)
            return
        if connection.accepts(parcel.target):
            parcel.deliver()
        elif parcel.target is connection.server and connection.is_open:
            self._wait_for_start(parcel)

    def _wait_for_start(self, parcel: Parcel) -> None:
        """ZMQ keeps what was not written yet and connects again; half of it was written."""
        sender = parcel.connection
        is_alive = sender.client.is_up and sender.client.life == sender.client_life
        if is_alive and self.clock.chance(0.5):
            self._held.append(parcel)
