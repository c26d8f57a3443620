"""The simulated bond thread and peer service: when a core is asked, and when time passes for it."""

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from p2p.backend.store import Suspect
from p2p.keys import split_keys
from p2p.wire.codec import ONE_WAY
from p2p.wire.decoders import CONTROLLER_REPLIES, PEER_REQUESTS
from p2p.wire.exchange import Outgoing, Sender
from p2p.wire.messages import (
    Diagnose,
    Hello,
    LeaseRenew,
    LeaseRenewed,
    TakenOver,
    TakeOver,
    Welcome,
)
from tests.sim.clock import require
from tests.sim.wire import Asker

if TYPE_CHECKING:
    from p2p.keys import ChunkKey
    from tests.sim.instance import SimInstance

_LONGEST_WAIT_S = 1.0
_COLLECT_S = 0.003


class Bond:
    """Sends what the membership says."""

    def __init__(self, instance: "SimInstance") -> None:
        self._instance = instance
        self._asker = Asker(
            instance.network, instance, instance.world.controller, "bond", self._on_answer
        )
        self._num_asked = 0
        self._timer = 0
        self.send_due()

    def wake(self) -> None:
        """There are events to send; a moment later, so that one batch tells them all."""
        self._arm(_COLLECT_S)

    def send_due(self) -> None:
        """Sends what is due and sleeps until something is."""
        instance, now_s = self._instance, self._instance.now_s()
        core = instance.core
        core.carry_out_orders(now_s)
        if core.errands.for_reader:
            work = partial(instance.engine.take, _look)
            instance.later(0.0, "engine", "hears of orders", work)
        for message in core.membership.poll(now_s, core.leases.num_bytes):
            self._num_asked += 1
            self._asker.send(message, self._num_asked)
        due_s = core.next_bond_s(now_s)
        if core.following is not None:
            for message in core.following.poll(now_s):
                self._num_asked += 1
                self._asker.send(message, self._num_asked)
            due_s = min(due_s, core.following.next_deadline_s(now_s))
        wait_s = due_s - now_s
        self._arm(min(max(wait_s, 0.001), _LONGEST_WAIT_S))

    def say_farewell(self) -> None:
        """The last messages."""
        now_s = self._instance.now_s()
        for message in self._instance.core.membership.farewell(now_s):
            self._asker.send(message, ONE_WAY)

    def _on_answer(self, _: int, body: bytes) -> None:
        message = CONTROLLER_REPLIES.decode(body)
        core, engine = self._instance.core, self._instance.engine
        core.membership.on_answer(message, self._instance.now_s())
        if core.following is not None:
            core.following.on_answer(message, self._instance.now_s())
        if core.take_news():
            self._instance.later(0.0, "engine", "hears news", partial(engine.take, _look))
        self._arm(0.0)

    def _arm(self, wait_s: float) -> None:
        self._timer += 1
        self._instance.later(wait_s, "bond", "bond", partial(self._on_timer, self._timer))

    def _on_timer(self, number: int) -> None:
        if number == self._timer:
            self.send_due()


def _look() -> None:
    """The engine's turn does the rest."""


class PeerService:
    """Answers peers, ends leases, and looks after reported chunks."""

    def __init__(self, instance: "SimInstance") -> None:
        self._instance = instance
        self._timer_s: float | None = None
        self.newest_reader: dict[str, int] = {}
        self._offered: dict[Sender, list[ChunkKey]] = {}

    def answer(self, sender: Sender, body: bytes) -> Iterable[Outgoing]:
        """Returns the core's answers."""
        core, now_s = self._instance.core, self._instance.now_s()
        message = PEER_REQUESTS.decode(body)
        if isinstance(message, Diagnose):
            return []  # of machines, of which there are none here
        answers = core.handle(sender, message, now_s)
        if isinstance(message, Hello) and isinstance(answers[0].message, Welcome):
            newest = self.newest_reader.get(message.instance, 0)
            require(message.incarnation >= newest, "a fenced reader was welcomed")
            self.newest_reader[message.instance] = message.incarnation
        if isinstance(message, TakeOver):
            self._offered[sender] = split_keys(message.keys, message.key_bytes)
        if isinstance(message, LeaseRenew) and isinstance(answers[0].message, LeaseRenewed):
            self._check_renewal(message)
        self.tick()
        return answers

    def tick(self) -> None:
        """Ends leases whose time is over, and looks after reported chunks."""
        core, now_s = self._instance.core, self._instance.now_s()
        core.tick(now_s)
        for suspect in core.take_suspects():
            self._examine(suspect)
        if core.wants_reader:
            engine = self._instance.engine
            self._instance.later(0.0, "engine", "hears pleas", partial(engine.take, _look))
        deadline_s = core.leases.next_deadline_s()
        is_armed = self._timer_s is not None and deadline_s is not None
        if deadline_s is None or (is_armed and (self._timer_s or 0.0) <= deadline_s):
            return
        self._timer_s = deadline_s
        wait_s = max(0.0, deadline_s - now_s) + 0.001
        self._instance.later(wait_s, "peers", "leases", partial(self._on_timer, deadline_s))

    def late_answers(self) -> list[Outgoing]:
        """Returns the core's answers that have become due."""
        answers = self._instance.core.take_late_answers()
        for answer in answers:
            message = answer.message
            require(isinstance(message, TakenOver), "an answer to nothing that takes long")
            if isinstance(message, TakenOver):
                taken = self._offered[answer.to][: message.num_chunks]
                has_all = self._instance.pool.keys.issuperset(taken)
                require(has_all, "a peer was told of chunks that never arrived")
        return answers

    def check_fenced(self) -> None:
        """No lease belongs to a start of a reader that a newer one has taken the place of."""
        for lease in self._instance.core.leases._leases.values():
            newest = self.newest_reader.get(lease.reader.instance, 0)
            require(lease.reader.incarnation >= newest, "a lease outlived its reader's fencing")

    def _check_renewal(self, renewal: LeaseRenew) -> None:
        core = self._instance.core
        lease = core.leases.get(renewal.token)
        for entry in lease.entries if lease is not None else ():
            is_same = core.slots.generation(entry.slot) == entry.generation
            require(is_same, "a lease was renewed although its slot was reused")

    def _on_timer(self, deadline_s: float) -> None:
        if self._timer_s == deadline_s:
            self._timer_s = None
            self.tick()

    def _examine(self, suspect: Suspect) -> None:
        instance = self._instance
        entry = instance.core.pin_suspect(suspect)
        if entry is None:
            return

        def judge() -> None:
            found = instance.pool.digest(entry.key, entry.slot)
            instance.core.judge_suspect(entry, (found,))
            instance.bond.wake()

        instance.later(instance.clock.random.uniform(0.0, 0.01), "peers", "examines", judge)
