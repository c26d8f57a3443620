"""A shell around a `ReaderCore`: real instances as holders, one number a slot as memory.

By default everything is carried out at once and well. Attributes hold things back or break them;
what is held back is carried out by the test, in any order. The clock is moved by hand.
"""

import zlib
from dataclasses import dataclass, field
from typing import assert_never

from p2p.agent.slots import SlotState
from p2p.backend.actions import (
    Action,
    AskController,
    AskPeer,
    CancelRead,
    DropPeer,
    DropSocket,
    FetchOutcome,
    OpenLink,
    Phase,
    Read,
    TellPeer,
    Verify,
)
from p2p.backend.fetch import Fetch
from p2p.backend.fetch_context import FetchLimits
from p2p.backend.instance import InstanceCore
from p2p.backend.reader import ReaderCore
from p2p.keys import ChunkKey
from p2p.wire.messages import Locate, Located, Message
from tests.unit.backend.builders import SENDER, instance_core
from tests.unit.backend.exact_directory import locate


def content_of(instance: str, key: ChunkKey) -> int:
    """What an instance stores under a key; holders differ, as the bytes of real ones may."""
    return zlib.crc32(instance.encode() + key)


@dataclass
class Shell:
    """A reader, its holders, and what is between them.

    Attributes:
        silent: holders that do not answer; the questions are kept in `unanswered`.
        alive: silent holders whose sockets answer; others are unreached.
        slow_links: holders to which connecting the channel takes until `link`.
        broken_links: holders to which no channel can be connected.
        holds_reads: reads stay in `reads` until the test ends them.
        holds_verify: digests stay in `to_verify` until the test computes them.
        corrupt: holders and slots whose bytes are damaged on the way.
    """

    holders: list[InstanceCore]
    own: InstanceCore = field(default_factory=lambda: instance_core("r"))
    limits: FetchLimits = field(default_factory=FetchLimits)
    now_s: float = 100.0
    silent: set[str] = field(default_factory=set)
    alive: set[str] = field(default_factory=set)
    slow_links: set[str] = field(default_factory=set)
    broken_links: set[str] = field(default_factory=set)
    corrupt: set[str] = field(default_factory=set)
    is_controller_silent: bool = False
    is_partial: bool = False
    holds_reads: bool = False
    holds_verify: bool = False
    memory: dict[tuple[str, int], int] = field(default_factory=dict)
    reads: list[Read] = field(default_factory=list)
    cancelled: list[Read] = field(default_factory=list)
    to_verify: list[Verify] = field(default_factory=list)
    unanswered: list[AskPeer] = field(default_factory=list)
    opening: list[OpenLink] = field(default_factory=list)
    log: list[Action] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reader = ReaderCore(self.own, self.limits)
        self.cores = {core.identity.instance: core for core in [*self.holders, self.own]}

    # ------------------------------------------------------------------ what tests do

    def put(self, core: InstanceCore, keys: list[ChunkKey], tenant: str = "") -> None:
        """Stores chunks at an instance."""
        name = core.identity.instance
        for placement in core.begin_put(keys, tenant):
            content = content_of(name, placement.key)
            self.memory[name, placement.slot] = content
            core.commit(placement, (content,), tenant)

    def drop(self, core: InstanceCore, keys: list[ChunkKey]) -> None:
        """Evicts chunks at an instance."""
        for key in keys:
            entry = core.index.get(key)
            assert entry is not None
            core.drop(entry)

    def fetch(self, keys: list[ChunkKey], tenant: str = "", budget_s: float = 1.0) -> Fetch:
        """Starts a fetch and carries out what is not held back."""
        fetch = self.reader.submit(keys, tenant, budget_s, self.now_s)
        self.carry_out()
        return fetch

    def advance(self, seconds: float) -> None:
        """Lets time pass."""
        self.now_s += seconds
        self.reader.on_time(self.now_s)
        self.carry_out()

    def carry_out(self) -> None:
        """Does everything that is asked for and not held back."""
        while actions := self.reader.take_actions():
            for action in actions:
                self.log.append(action)
                self._do(action)
        self.phases.extend(phase for _, phase in self.reader.take_phases())

    def copy(self, read: Read) -> None:
        """Moves the bytes of a read as they are at the holder now."""
        for local, remote in zip(read.local, read.remote, strict=True):
            damage = int(read.instance in self.corrupt)
            self.memory["r", local] = self.memory[read.instance, remote] ^ damage

    def finish(self, read: Read) -> None:
        """All bytes of a read that was held back arrive."""
        self.reads.remove(read)
        self.copy(read)
        self.reader.on_read_done(read.read_id, self.now_s)
        self.carry_out()

    def fail(self, read: Read) -> None:
        """A read ends badly and has quiesced."""
        self.reads.remove(read)
        self.reader.on_read_failed(read.read_id, "reset by peer", self.now_s)
        self.carry_out()

    def break_off(self, read: Read) -> None:
        """A read ends badly and may still write."""
        self.reads.remove(read)
        self.cancelled.append(read)
        self.reader.on_read_broken(read.read_id, "broken", self.now_s)
        self.carry_out()

    def quiesce(self, read: Read) -> None:
        """A given-up read ends for certain; its bytes land late."""
        self.cancelled.remove(read)
        self.copy(read)
        self.reader.on_quiesced(read.read_id)
        self.carry_out()

    def verify(self, job: Verify) -> None:
        """Computes the digests of chunks that were held back."""
        self.to_verify.remove(job)
        roots = tuple((self.memory["r", slot],) for slot in job.slots)
        self.reader.on_verified(job.read_id, roots, self.now_s)
        self.carry_out()

    def answer(self, question: AskPeer) -> None:
        """A holder that was silent answers late."""
        self.unanswered.remove(question)
        self.reader.on_peer(question.tag, self._reply(question), self.now_s)
        self.carry_out()

    def link(self, action: OpenLink) -> None:
        """A channel that took its time is connected, or is not."""
        self.opening.remove(action)
        name = action.holder.instance
        problem = "no route" if name in self.broken_links else None
        self.reader.on_link(action.holder, problem, self.now_s)
        self.carry_out()

    # ------------------------------------------------------------------ what tests ask

    def sent(self, kind: type[Message], to: str = "") -> list[Message]:
        """Messages of a type that went to holders."""
        return [
            action.message
            for action in self.log
            if isinstance(action, AskPeer | TellPeer)
            and isinstance(action.message, kind)
            and to in {"", action.holder.instance}
        ]

    def outcome(self, fetch: Fetch) -> FetchOutcome:
        """What a fetch delivered."""
        assert fetch.outcome is not None
        return fetch.outcome

    def check_delivered(self, fetch: Fetch, keys: list[ChunkKey]) -> int:
        """Asserts that what was delivered is a prefix, byte for byte; returns its length."""
        entries = self.outcome(fetch).entries
        assert [entry.key for entry in entries] == keys[: len(entries)]
        for entry in entries:
            assert self.own.index.get(entry.key) is entry
            assert entry.num_pins
            assert not entry.is_damaged
            content = self.memory["r", entry.slot]
            assert entry.roots == (content,)
            assert content in {content_of(name, entry.key) for name in self.cores}
        return len(entries)

    def check_nothing_left(self, *fetches: Fetch) -> None:
        """Asserts that after the callers' release no pin, lease, slot or fetch is left behind."""
        for fetch in fetches:
            for entry in self.outcome(fetch).entries:
                self.own.unpin(entry)
        assert not self.reader.fetches
        assert self.own.slots.count(SlotState.FILLING) == 0
        assert self.own.slots.count(SlotState.QUARANTINED) == 0
        for core in self.cores.values():
            core.check_integrity()
            assert len(core.leases) == 0
            assert all(entry.num_pins == 0 for entry in core.index)

    # ------------------------------------------------------------------ parts

    def _do(self, action: Action) -> None:
        match action:
            case AskController() | AskPeer() | TellPeer():
                self._send(action)
            case OpenLink():
                self.opening.append(action)
                if action.holder.instance not in self.slow_links:
                    self.link(action)
            case Read() | CancelRead():
                self._read(action)
            case Verify():
                self.to_verify.append(action)
                if not self.holds_verify:
                    self.verify(action)
            case DropPeer() | DropSocket():
                pass
            case _:
                assert_never(action)

    def _send(self, action: AskController | AskPeer | TellPeer) -> None:
        if isinstance(action, AskController):
            if not self.is_controller_silent:
                self.reader.on_controller(action.tag, self.locate(action.message), self.now_s)
        elif isinstance(action, TellPeer):
            self._reply(action)
        elif action.holder.instance in self.silent:
            self.unanswered.append(action)
            if action.holder.instance in self.alive:
                self.reader.on_reached(action.holder)
        else:
            self.reader.on_peer(action.tag, self._reply(action), self.now_s)

    def _read(self, action: Read | CancelRead) -> None:
        if isinstance(action, Read):
            self.reads.append(action)
            if not self.holds_reads:
                self.finish(action)
        else:
            for read in [read for read in self.reads if read.read_id == action.read_id]:
                self.reads.remove(read)
                self.cancelled.append(read)

    def _reply(self, question: AskPeer | TellPeer) -> Message:
        core = self.cores[question.holder.instance]
        (answer,) = core.handle(SENDER, question.message, self.now_s)  # type: ignore[arg-type]
        return answer.message

    def locate(self, question: Locate) -> Located:
        """What the controller answers."""
        return locate(self.cores, question, is_partial=self.is_partial)
