"""The simulated fetch engine: carries out what the reader asks for, as `p2p.backend.engine` does.

One piece of work at a time. Opening a link and a read inside the call take the engine's time; what
comes in meanwhile waits. Takes no decision of its own.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, assert_never

from p2p.backend.actions import (
    Action,
    AskController,
    AskPeer,
    CancelRead,
    DropPeer,
    DropSocket,
    OpenLink,
    Read,
    ReadId,
    Tag,
    TellPeer,
    Verify,
)
from p2p.backend.reader import ReaderCore
from p2p.channel.base import TransferState
from p2p.wire.codec import ONE_WAY
from p2p.wire.decoders import CONTROLLER_REPLIES, PEER_REPLIES
from p2p.wire.messages import Holder
from tests.sim.clock import require
from tests.sim.hedges import Hedges
from tests.sim.pool import Stored
from tests.sim.transfers import Fate, Transfer
from tests.sim.wire import Asker

if TYPE_CHECKING:
    from tests.sim.instance import SimInstance

QUARANTINE_S = 0.6
_MAX_IDLE_TURNS = 2_000
Roots = tuple[tuple[int, ...], ...]


@dataclass(slots=True, eq=False)
class Line:
    """Socket and link to one holder at one of its starts."""

    holder: Holder
    asker: Asker | None = None
    link_life: int | None = None


class Engine:
    """The engine of one start of an instance.

    Args:
        instance: whose.
        reader: decides.
    """

    def __init__(self, instance: "SimInstance", reader: ReaderCore) -> None:
        self.reader = reader
        self.free_since_s = instance.clock.now_s
        self.is_busy = False
        self._instance = instance
        self._controller = Asker(
            instance.network, instance, instance.world.controller, "engine", self._on_controller
        )
        self._lines: dict[str, Line] = {}
        self._reads: dict[ReadId, Transfer] = {}
        self._given_up: dict[ReadId, Transfer] = {}
        self._arrived: dict[ReadId, Transfer] = {}
        self._inbox: deque[Callable[[], None]] = deque()
        self._todo: deque[Action] = deque()
        self._verdicts: deque[tuple[Verify, Roots]] = deque()
        self._timer = 0
        self._timer_s: float | None = None
        self._num_idle_turns = 0
        self._hedges = Hedges()

    def take(self, work: Callable[[], None]) -> None:
        """Does something on the engine's thread, then whatever follows from it."""
        if self.is_busy:
            self._inbox.append(work)
            return
        self._num_idle_turns = 0
        work()
        self.turn()

    def turn(self) -> None:
        """Passes time and carries out what follows."""
        self.reader.on_time(self._now_s())
        self._carry_out()

    def curse_read(self) -> None:
        """Something happens to a read under way, if there is one."""
        reads = [read for read in self._reads.values() if read.state is TransferState.PENDING]
        if reads:
            draw = self._instance.clock.random
            draw.choice(reads).curse(draw.choice([f for f in Fate if f is not Fate.NONE]))

    def on_transfer(self, transfer: Transfer) -> None:
        """Something happened to a transfer; the next poll sees it."""
        seen = partial(self.take, partial(self._look, transfer))
        delay_s = self._instance.clock.random.uniform(0.0, 0.0004)
        self._instance.later(delay_s, "engine", f"sees {transfer.label}", seen)

    # ------------------------------------------------------------------ what came in

    def _on_controller(self, request_id: int, body: bytes) -> None:
        message = CONTROLLER_REPLIES.decode(body)
        self.take(lambda: self.reader.on_controller(Tag(request_id), message, self._now_s()))

    def _on_peer(self, request_id: int, body: bytes) -> None:
        message = PEER_REPLIES.decode(body)
        self.take(lambda: self.reader.on_peer(Tag(request_id), message, self._now_s()))

    def _look(self, transfer: Transfer) -> None:
        read_id = transfer.action.read_id
        if read_id in self._given_up:
            if transfer.is_quiet:
                del self._given_up[read_id]
                self.reader.on_quiesced(read_id)
        elif self._reads.get(read_id) is transfer and transfer.state is not TransferState.PENDING:
            del self._reads[read_id]
            self._ended(transfer)

    def _ended(self, transfer: Transfer) -> None:
        read_id, now_s = transfer.action.read_id, self._now_s()
        if transfer.state is TransferState.DONE:
            self._arrived[read_id] = transfer
            if not self.reader.on_read_done(read_id, now_s):
                self._arrived.pop(read_id, None)
        elif transfer.is_quiet:
            self.reader.on_read_failed(read_id, transfer.state.value, now_s)
        else:
            self._keep(transfer)
            self.reader.on_read_broken(read_id, transfer.state.value, now_s)

    # ------------------------------------------------------------------ actions

    def _carry_out(self) -> None:
        self._take_actions()
        while self._todo and not self.is_busy:
            self._do(self._todo.popleft())
            self._take_verdicts()
            self._take_actions()
        self._instance.settle()
        self._instance.send_all(self._instance.service.late_answers())
        if self._instance.core.has_bond_news:
            self._instance.bond.wake()
        self._arm()

    def _take_actions(self) -> None:
        actions = self.reader.take_actions()
        for fetch, phase in self.reader.take_phases():
            self._instance.on_phase(fetch, phase)
        for action in actions:
            if isinstance(action, Verify):  # at once: the next reads copy meanwhile
                self._verify(action)
            else:
                self._todo.append(action)
        if self._verdicts:
            self._take_verdicts()
            self._take_actions()

    def _do(self, action: Action) -> None:
        match action:
            case AskController() | AskPeer() | TellPeer():
                self._send(action)
            case OpenLink():
                self._open_link(action)
            case Read():
                self._read(action)
            case CancelRead():
                self._cancel(action.read_id)
            case DropPeer():
                self._drop(action.instance)
            case DropSocket():
                self._hang_up(action.instance)
            case Verify():
                self._verify(action)
            case _:
                assert_never(action)

    def _send(self, action: AskController | AskPeer | TellPeer) -> None:
        match action:
            case AskController():
                if not self.reader.ask_mirror(action.tag, action.message, self._now_s()):
                    self._controller.send(action.message, action.tag)
            case AskPeer():
                self._asker(action.holder).send(action.message, action.tag)
            case TellPeer():
                self._asker(action.holder).send(action.message, ONE_WAY)
            case _:
                assert_never(action)

    def _open_link(self, action: OpenLink) -> None:
        instance = self._instance
        holder = instance.world.instances[action.holder.instance]
        is_there = holder.is_up and holder.incarnation == action.welcome.incarnation
        is_there = is_there and not instance.network.is_cut(instance.name, holder.name)
        draw = instance.clock.random
        delay_s = draw.uniform(0.0005, 0.01 if is_there else 0.08)
        if instance.clock.chance(instance.world.woes.slow_links):
            delay_s = draw.uniform(0.0, 1.2 * action.timeout_s)
        life = holder.life
        is_there = is_there and delay_s < action.timeout_s

        def opened() -> None:
            if not self.reader.awaits_link(action.holder):
                return
            line = self._lines.get(holder.name)
            is_same = is_there and holder.is_up and holder.life == life and line is not None
            if is_same and line is not None:
                line.link_life = life
            problem = None if is_same else "connection refused"
            self.reader.on_link(action.holder, problem, self._now_s())

        work = partial(self.take, opened)
        wait_s = min(delay_s, action.timeout_s)
        instance.later(wait_s, "dialer", f"dials {holder.name}", work)

    def _read(self, action: Read) -> None:
        line = self._lines.get(action.instance)
        if line is None or line.link_life is None:
            self.reader.on_read_failed(action.read_id, "no link", self._now_s())
            return
        transfer = self._new_transfer(action, line.link_life)
        if self._instance.clock.chance(0.3):  # the transport copies inside the call
            self._block(transfer.step_s, "copy", partial(self._copy_now, transfer))
            return
        self._reads[action.read_id] = transfer
        transfer.start()
        self.reader.on_time(self._now_s())

    def _copy_now(self, transfer: Transfer) -> None:
        transfer.run_now()
        self._ended(transfer)
        self.reader.on_time(self._now_s())

    def _new_transfer(self, action: Read, life: int) -> Transfer:
        instance = self._instance
        draw, woes = instance.clock.random, instance.world.woes
        fates = list(woes.by_fate)
        fate = draw.choices(fates, [woes.by_fate[f] for f in fates])[0] if fates else Fate.NONE
        fetch = self.reader._fetch_by_read[action.read_id]
        reading = fetch._readings[action.read_id]
        self._hedges.on_read(fetch, reading)
        return Transfer(
            action=action,
            reader=instance,
            holder=instance.world.instances[action.instance],
            token=reading.grant.token,
            fate=fate,
            fate_at=draw.randrange(2 * len(action.local)),
            step_s=draw.choice(woes.steps_s) * draw.uniform(0.5, 1.5),
            holder_life=life,
            reader_life=instance.life,
        )

    def _cancel(self, read_id: ReadId) -> None:
        transfer = self._reads.pop(read_id, None)
        if transfer is not None:
            transfer.cancel(is_quick=self._instance.clock.chance(0.3))
            self._keep(transfer)

    def _keep(self, transfer: Transfer) -> None:
        """Waits until a given-up read has quiesced, and fences its holder if that takes long."""
        self._given_up[transfer.action.read_id] = transfer
        if transfer.is_quiet:
            self.on_transfer(transfer)
            return
        fence = partial(self.take, partial(self._fence, transfer))
        self._instance.later(QUARANTINE_S, "engine", f"fences {transfer.label}", fence)

    def _fence(self, late: Transfer) -> None:
        if late.action.read_id not in self._given_up:
            return
        name = late.holder.name
        transfers = [*self._reads.values(), *self._given_up.values()]
        for transfer in transfers:
            if transfer.holder.name == name:
                transfer.cancel(is_quick=True)
                transfer.quiesce()
                self.on_transfer(transfer)
        if name in self._lines:
            self._lines[name].link_life = None
            self.reader.on_link_lost(name)

    def _drop(self, name: str) -> None:
        line = self._lines.pop(name, None)
        if line is None:
            return
        if line.asker is not None:
            line.asker.close()
        for transfer in self._reads.values():
            if transfer.holder.name == name:
                transfer.cancel(is_quick=self._instance.clock.chance(0.3))
                self.on_transfer(transfer)

    def _hang_up(self, name: str) -> None:
        """Closes the socket; a link stays."""
        line = self._lines.get(name)
        if line is not None and line.asker is not None:
            line.asker.close()
            line.asker = None

    def _asker(self, holder: Holder) -> Asker:
        line = self._lines.get(holder.instance)
        if line is None or line.holder.incarnation < holder.incarnation:
            self._drop(holder.instance)
            line = self._lines[holder.instance] = Line(holder)
        if line.asker is None:
            instance = self._instance
            server = instance.world.instances[holder.instance]
            line.asker = Asker(instance.network, instance, server, "engine", self._on_peer)
            self._watch(line, line.asker)
        return line.asker

    def _watch(self, line: Line, asker: Asker) -> None:
        """Tells how the first contact over a socket goes, as far as that is to be seen."""
        instance, holder = self._instance, line.holder
        server = instance.world.instances[holder.instance]
        delay_s = instance.clock.random.uniform(0.0002, 0.02)

        def seen() -> None:
            is_cut = instance.network.is_cut(instance.name, server.name)
            if line.asker is not asker or is_cut or server.is_stopped:
                return
            if server.is_up:
                self.reader.on_reached(holder)
            else:
                self.reader.on_unreachable(holder, self._now_s())

        instance.later(delay_s, "engine", f"sees {server.name}", partial(self.take, seen))

    # ------------------------------------------------------------------ verification

    def _verify(self, action: Verify) -> None:
        transfer = self._arrived[action.read_id]
        require(transfer.in_lease, f"{transfer.label} counts, but it ended after its lease")
        draw = self._instance.clock.random
        if draw.random() < 0.4:
            self._verdicts.append((action, self._roots(action)))
            return
        delay_s = draw.choice([0.0005, 0.02, 0.05]) * draw.random()

        def judge() -> None:
            self._verdicts.append((action, self._roots(action)))
            self.take(self._take_verdicts)

        self._instance.later(delay_s, "verifier", f"verifies {transfer.label}", judge)

    def _roots(self, action: Verify) -> Roots:
        pool = self._instance.pool
        pairs = zip(action.keys, action.slots, strict=True)
        return tuple((pool.digest(key, slot),) for key, slot in pairs)

    def _take_verdicts(self) -> None:
        while self._verdicts:
            action, roots = self._verdicts.popleft()
            self.reader.on_verified(action.read_id, roots, self._now_s())
            self._note_commits(action, self._arrived.pop(action.read_id))

    def _note_commits(self, action: Verify, transfer: Transfer) -> None:
        """What became part of the index must be what the holder had stored."""
        core, pool = self._instance.core, self._instance.pool
        for key, slot, truth in zip(action.keys, action.slots, transfer.truth, strict=True):
            entry = core.index.get(key)
            if entry is None or entry.slot != slot:
                continue
            require(truth is not None, f"{transfer.label}: the holder had nothing there any more")
            problem = self._instance.world.truth.problem(key, pool.content(slot))
            require(not problem, f"{transfer.label}: wrong bytes were committed, {problem}")
            if truth is not None:
                require(truth.key == key, f"{transfer.label}: a chunk came under a foreign key")
                same = truth.content == pool.content(slot)
                require(same, f"{transfer.label}: wrong bytes were committed")
                pool.store(slot, Stored(key, truth.content, entry.generation))

    # ------------------------------------------------------------------ time

    def _block(self, delay_s: float, label: str, work: Callable[[], None]) -> None:
        """The engine's thread is inside a call for a while."""
        self.is_busy = True

        def over() -> None:
            self.is_busy = False
            self.free_since_s = self._instance.clock.now_s
            work()
            self._take_verdicts()
            self.turn()
            while self._inbox and not self.is_busy:
                self.take(self._inbox.popleft())

        self._instance.later(delay_s, "engine", label, over)

    def _arm(self) -> None:
        deadline_s = self.reader.next_deadline_s()
        if deadline_s is None or (self._timer_s is not None and self._timer_s <= deadline_s):
            return
        self._timer += 1
        self._timer_s = deadline_s
        wait_s = max(0.0, deadline_s - self._now_s())
        wait_s += self._instance.clock.random.uniform(0.0001, 0.0015)
        self._instance.later(wait_s, "engine", "timer", partial(self._on_timer, self._timer))

    def _on_timer(self, number: int) -> None:
        if number != self._timer:
            return
        self._timer_s = None
        self._num_idle_turns += 1
        require(self._num_idle_turns < _MAX_IDLE_TURNS, "the engine spins")
        if not self.is_busy:
            self.turn()  # a busy one passes time by itself when it is free

    def _now_s(self) -> float:
        return self._instance.now_s()
