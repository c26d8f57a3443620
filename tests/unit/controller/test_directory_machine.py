"""Whatever happens to messages, instances and the controller: the directory equals dicts of sets.

The real core is driven through messages that are lost, doubled and overtake each other, over
restarts of both sides, silence and expiry. At every moment the entries of an instance are those
that its index had after the last acknowledged event; whoever is asked for is found accordingly;
and after a quiet time everything is in step.
"""

import itertools
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING
from unittest import mock

import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from p2p.changes import Changes
from p2p.keys import InstanceId, Namespace, join_keys
from p2p.layout import Layout
from p2p.wire.messages import (
    ControllerRequest,
    Deregister,
    Events,
    FeedStatus,
    Heartbeat,
    Message,
    Refusal,
    Register,
    Registered,
    SnapshotPage,
    Want,
)
from tests.unit.controller.instances import (
    DEVICE,
    EVICT,
    HOST,
    LAYOUT,
    NAMESPACE,
    Controller,
    Instance,
    key,
)
from tests.unit.controller.naive_directory import Known, NaiveDirectory, State

if TYPE_CHECKING:
    from p2p.keys import ChunkKey
    from p2p.wire.exchange import Outgoing
    from p2p_controller.feed import Feed

NAMES = ("a", "b", "c", "d")
NAME = st.sampled_from(NAMES)
NUMBERS = st.integers(1, 9)
TENANTS = st.sampled_from(["", "", "t"])
LAYOUTS = (LAYOUT, msgspec.structs.replace(LAYOUT, head_dim=32))
NAMESPACES = (NAMESPACE, msgspec.structs.replace(NAMESPACE, weights_digest="d2"))
SILENT_S, FORGET_S = 3.0, 8.0
_PAGE_ENTRIES = 2
_NUM_ROUNDS = 40
PHASES = tuple(Phase)


@dataclass
class Player(Instance):
    """One start of an instance, with everything that it ever told.

    Attributes:
        states: of its index, after each event.
        sent: every batch, for replays.
        num_syncs: snapshots so far.
        pages: of the last one, not sent yet.
    """

    states: list[State] = field(default_factory=lambda: [{}])
    sent: list[Events] = field(default_factory=list)
    num_syncs: int = 0
    pages: list[SnapshotPage] = field(default_factory=list)

    def tell(self, kind: int, numbers: list[int], tenant: str) -> Events:
        """Changes the index; returns the batch."""
        for number in numbers:
            entry = (tenant, key(number))
            state = {e: tier for e, tier in self.states[-1].items() if e != entry}
            self.states.append(state if kind == EVICT else {**state, entry: kind})
        batch = self.change(*((kind, number) for number in numbers), tenant=tenant)
        self.sent.append(batch)
        return batch

    def replay(self, after_seq: int) -> list[Events]:
        """Returns the batches that contain events after a number."""
        late: list[Events] = []
        for batch in self.sent:
            skip = max(0, after_seq + 1 - batch.first_seq)
            if skip < len(batch.kinds):
                rest = msgspec.structs.replace(
                    batch,
                    epoch=self.epoch,
                    first_seq=batch.first_seq + skip,
                    kinds=batch.kinds[skip:],
                    keys=batch.keys[skip * batch.key_bytes :],
                )
                late.append(rest)
        return late

    def snapshot(self) -> list[SnapshotPage]:
        """Returns the pages of a snapshot of this moment."""
        self.num_syncs += 1
        parts: list[tuple[str, list[ChunkKey]]] = []
        for tenant, entries in itertools.groupby(sorted(self.index), key=lambda entry: entry[0]):
            keys = [entry[1] for entry in entries]
            parts += [
                (tenant, keys[at : at + _PAGE_ENTRIES]) for at in range(0, len(keys), _PAGE_ENTRIES)
            ]
        parts = parts or [("", [])]
        return [
            SnapshotPage(
                instance=self.name,
                incarnation=self.incarnation,
                epoch=self.epoch,
                sync=self.num_syncs,
                start_seq=self.last_seq,
                page=number,
                last=number == len(parts) - 1,
                kinds=bytes(self.index[tenant, key] for key in keys),
                keys=join_keys(keys)[0],
                key_bytes=32,
                tenant=tenant,
            )
            for number, (tenant, keys) in enumerate(parts)
        ]


class Fate(Enum):
    """What becomes of a message."""

    ARRIVES = 0
    LOST = 1
    LATER = 2
    TWICE = 3


class Turn(Enum):
    """What happens seldom."""

    NEW_START = 0
    REGISTERS_AGAIN = 1
    LEAVES = 2
    CONTROLLER_RESTARTS = 3
    ENTRY_CHANGES = 4
    ALL_IS_QUIET = 5
    NOTHING = 6


FATES = st.sampled_from([Fate.ARRIVES, Fate.ARRIVES, *Fate])


@dataclass(frozen=True)
class Parcel:
    """A message on its way."""

    player: Player
    message: ControllerRequest


class DirectoryMachine(RuleBasedStateMachine):
    """Steps in any order."""

    @initialize(num_joined=st.integers(0, len(NAMES)))
    def start(self, num_joined):
        self.num_epochs = 0
        self.controller = self._controller()
        self.model = NaiveDirectory(SILENT_S, FORGET_S)
        self.players: dict[str, Player] = {}
        self.num_starts = 0
        self.tampered: set[str] = set()
        self.wire: list[Parcel] = []
        for number, name in enumerate(NAMES):
            self._start(name, LAYOUT, NAMESPACE)
            if number < num_joined:
                self._send(name, self.players[name].register(), Fate.ARRIVES)

    # ------------------------------------------------------------------ what instances do

    @rule(
        name=NAME,
        kind=st.sampled_from([EVICT, DEVICE, DEVICE, HOST]),
        numbers=st.lists(NUMBERS, min_size=1, max_size=4),
        tenant=TENANTS,
        fate=FATES,
    )
    def change(self, name, kind, numbers, tenant, fate):
        self._send(name, self.players[name].tell(kind, numbers, tenant), fate)

    @rule(name=NAME, load=st.sampled_from([0, 0, 5]), fate=FATES)
    def beat(self, name, load, fate):
        self._send(name, self.players[name].heartbeat(load), fate)

    @rule(name=NAME)
    def begin_snapshot(self, name):
        """A snapshot begins, wanted or not; its pages travel while other things happen."""
        player = self.players[name]
        player.pages = player.snapshot()

    @precondition(lambda self: any(player.pages for player in self.players.values()))
    @rule(number=st.integers(0, 3), fate=FATES)
    def send_page(self, number, fate):
        names = [name for name, player in self.players.items() if player.pages]
        name = names[number % len(names)]
        self._send(name, self.players[name].pages.pop(0), fate)

    @rule(name=NAME, back=st.integers(0, 9), fates=st.lists(FATES, min_size=1, max_size=3))
    def replay(self, name, back, fates):
        player = self.players[name]
        late = player.replay(max(0, player.last_seq - back))
        for batch, fate in zip(late, itertools.cycle(fates), strict=False):
            self._send(name, batch, fate)

    @rule(name=NAME)
    def obey(self, name):
        """An instance does once what the controller wants."""
        player = self.players[name]
        reply = self._deliver(player, player.heartbeat())
        if isinstance(reply, FeedStatus):
            self._obey(player, reply)

    # ------------------------------------------------------------------ what becomes of messages

    @precondition(lambda self: self.wire)
    @rule(picks=st.lists(st.integers(0, 40), min_size=1, max_size=4), stays=st.booleans())
    def deliver(self, picks, stays):
        """Some of what is on its way arrives, in any order, and perhaps not for the last time."""
        for pick in picks:
            if self.wire:
                number = pick % len(self.wire)
                parcel = self.wire[number] if stays else self.wire.pop(number)
                self._deliver(parcel.player, parcel.message)

    # ------------------------------------------------------------------ time and fate

    @rule(seconds=st.sampled_from([*[0.25] * 8, *[1.0] * 4, SILENT_S, FORGET_S]))
    def wait(self, seconds):
        self.other_answers(self.controller.wait(seconds))

    @rule(
        what=st.sampled_from([*Turn, *[Turn.NOTHING] * 8]),
        name=NAME,
        layout=st.sampled_from((LAYOUTS[0], *LAYOUTS)),
        namespace=st.sampled_from((NAMESPACES[0], NAMESPACES[0], *NAMESPACES)),
        chunk=NUMBERS,
        fate=FATES,
    )
    def fate_turns(self, what, name, layout, namespace, chunk, fate):
        """Something that happens seldom."""
        match what:
            case Turn.NEW_START:
                self._start(name, layout, namespace)
                self._send(name, self.players[name].register(), fate)
            case Turn.REGISTERS_AGAIN:
                self._send(name, self.players[name].register(), fate)
            case Turn.LEAVES:
                self._send(name, self.players[name].deregister(), fate)
            case Turn.CONTROLLER_RESTARTS:
                self.controller = self._controller()
                self.model.restart()
                self.tampered.clear()
            case Turn.ENTRY_CHANGES if name in self.model.members:
                self._tamper(name, chunk)
            case Turn.ALL_IS_QUIET:
                self.be_quiet()
            case _:
                pass

    def _tamper(self, name: str, chunk: int) -> None:
        """An entry goes wrong by itself: only a view hash can tell."""
        feed = self._feed_of(name)
        has = ("", key(chunk)) in self.controller.core.entries_of(name)
        if has:
            changes = Changes("", bytes([EVICT]), key(chunk), 32)
            feed._directory.apply(feed.live, changes)
            self.tampered.add(name)

    def be_quiet(self) -> None:
        """After a quiet time everything is in step, whatever went before."""
        for player in self.players.values():
            self._bring_in_step(player)
        for name, player in self.players.items():
            if name in self.model.members:
                assert self.controller.is_equal(player)
                assert self.model.members[name].acked_seq == player.last_seq
        self.check_entries()

    # ------------------------------------------------------------------ what must hold

    @rule(
        numbers=st.lists(NUMBERS, min_size=1, max_size=6),
        asker=st.sampled_from(["", *NAMES]),
        tenant=TENANTS,
        namespace=st.sampled_from(NAMESPACES),
    )
    def locate(self, numbers, asker, tenant, namespace):
        self.check_answer(numbers, asker, tenant, namespace)

    def check_answer(
        self, numbers: list[int], asker: str, tenant: str, namespace: Namespace
    ) -> None:
        """What is found is what the dicts of sets say, in the same order."""
        self.model.expire(self.controller.now_s)
        if self.tampered & set(self.model.members):
            return
        located = self.controller.locate(*numbers, asker=asker, tenant=tenant, namespace=namespace)
        found = [
            [
                (located.holders[number].instance, tier)
                for number, tier in zip(run.holders, run.tiers, strict=True)
            ]
            for run in located.runs
            for _ in range(run.count)
        ]
        wanted = self.model.prefix(
            [key(number) for number in numbers], asker, namespace.id, tenant, self.controller.now_s
        )
        ranked = [sorted(holders, key=self._rank) for holders in wanted]
        assert found == [
            [(name, holders[name]) for name in order]
            for order, holders in zip(ranked, wanted, strict=True)
        ]
        assert [run.count for run in located.runs] == [
            len(list(run)) for _, run in itertools.groupby(wanted)
        ]
        for holder in located.holders:
            assert holder.incarnation == self.model.members[holder.instance].incarnation
            assert holder.address == f"tcp://host{holder.incarnation}:7700"

    @invariant()
    def check_entries(self):
        """Every instance has the entries of its last acknowledged event, and nobody else any."""
        self.model.expire(self.controller.now_s)
        self.other_answers(self.controller.core.tick(self.controller.now_s))
        for name in NAMES:
            member = self.model.members.get(name)
            entries = self.controller.core.entries_of(name)
            if member is None:
                assert entries == {}
            elif name not in self.tampered:
                assert entries == member.entries
        asker = ("", *NAMES)[self.num_starts % (len(NAMES) + 1)]
        numbers = self._known_numbers()
        self.check_answer([*numbers, 9], asker, "t", NAMESPACE)

    # ------------------------------------------------------------------ parts

    def _feed_of(self, name: str) -> "Feed":
        return self.controller.core._state.members.by_id[InstanceId(name)].feed

    def _known_numbers(self) -> list[int]:
        """Returns the chunks that somebody holds, most holders first."""
        entries = Counter(e for member in self.model.members.values() for e in member.entries)
        return [int.from_bytes(chunk) for (_, chunk), _ in entries.most_common()]

    def _start(self, name: str, layout: Layout, namespace: Namespace) -> None:
        self.num_starts += 1
        self.players[name] = Player(
            name,
            incarnation=self.num_starts,
            layout=layout,
            namespace=namespace,
            address=f"tcp://host{self.num_starts}:7700",
        )

    def _send(self, name: str, message: ControllerRequest, fate: Fate) -> None:
        player = self.players[name]
        if fate in {Fate.ARRIVES, Fate.TWICE}:
            reply = self._deliver(player, message)
            if isinstance(reply, FeedStatus) and reply.want is Want.REGISTER:
                self._deliver(player, player.register())
        if fate in {Fate.LATER, Fate.TWICE}:
            self.wire.append(Parcel(player, message))

    def _controller(self) -> Controller:
        now_s = self.controller.now_s if self.num_epochs else 1000.0
        self.num_epochs += 1
        controller = Controller(
            epoch=self.num_epochs,
            silent_after_s=SILENT_S,
            forget_after_s=FORGET_S,
            recovery_s=0.0,
            max_kept_events=8,
        )
        controller.now_s = now_s
        return controller

    def _rank(self, name: str) -> tuple[int, float, str]:
        member = self.model.members[name]
        return member.load_bytes, -member.last_seen_s, name

    def _deliver(self, player: Player, message: ControllerRequest) -> Message:
        now_s = self.controller.now_s
        self.model.expire(now_s)
        outgoing, *others = self.controller.send_all(message)
        self.other_answers(others)
        reply = outgoing.message
        name, newest = player.name, self.model.fences.get(player.name, -1)
        member = self.model.members.get(name)
        if isinstance(message, Register):
            assert isinstance(reply, Refusal) == (player.incarnation < newest)
            if isinstance(reply, Registered):
                player.epoch = reply.epoch
                self.tampered.discard(name)
                known = Known(
                    player.incarnation, player.layout, player.namespace.id, player.states, now_s
                )
                self.model.add(name, known)
        elif isinstance(message, Deregister):
            if member is not None and player.incarnation >= member.incarnation:
                self.model.remove(name)
        elif member is not None and player.incarnation == member.incarnation:
            self._note_status(member, message, reply)
        elif member is not None and player.incarnation < member.incarnation:
            assert isinstance(reply, Refusal)
        else:
            assert isinstance(reply, FeedStatus)
            assert reply.want is Want.REGISTER
        return reply

    def _note_status(self, member: Known, message: Message, status: Message) -> None:
        assert isinstance(status, FeedStatus)
        assert status.acked_seq >= member.acked_seq
        assert status.acked_seq < len(member.states)
        member.last_seen_s = self.controller.now_s
        member.acked_seq = status.acked_seq
        if isinstance(message, Heartbeat) and message.epoch == self.num_epochs:
            member.load_bytes = message.load_bytes

    def other_answers(self, answers: "list[Outgoing]") -> None:
        """What the controller had still to say to somebody else."""
        assert not answers

    def _bring_in_step(self, player: Player) -> None:
        for _ in range(_NUM_ROUNDS):
            status = self._deliver(player, player.heartbeat())
            if isinstance(status, Refusal):
                return  # another start has its place
            if self._is_in_step(player, status):
                self.tampered.discard(player.name)
                return
            self._obey(player, status)
            self.controller.now_s += SILENT_S / 8
        raise AssertionError(f"{player.name} never gets in step")

    def _obey(self, player: Player, status: Message) -> None:
        assert isinstance(status, FeedStatus)
        if status.want is Want.REGISTER or status.epoch != player.epoch:
            self._deliver(player, player.register())
        elif status.want is Want.SNAPSHOT:
            for page in player.snapshot():
                self._deliver(player, page)
        elif status.want is Want.REPLAY:
            for batch in player.replay(status.acked_seq):
                self._deliver(player, batch)

    def _is_in_step(self, player: Player, status: Message) -> bool:
        return (
            isinstance(status, FeedStatus)
            and status.want is Want.NOTHING
            and status.epoch == player.epoch
            and status.acked_seq == player.last_seq
            and self.controller.core._state.members.by_id[InstanceId(player.name)].feed._staged
            is None
        )

    def teardown(self) -> None:
        if hasattr(self, "players"):
            self.be_quiet()


def test_the_directory_equals_dicts_of_sets():
    """At least 5,000 steps."""
    with (
        mock.patch("p2p_controller.feed.HISTORY_EVENTS", 2),
        mock.patch("p2p.key_map._MAX_PUT", 12),
        mock.patch("p2p.key_map._SPARSE_KEYS", 2),
        mock.patch("p2p.key_map.MIN_KEYS", 2),
        mock.patch("p2p.stretch.MIN_KEYS", 2),
        mock.patch("p2p.stretch.MAX_KEYS", 3),
    ):
        run_machine()


def run_machine() -> None:
    run_state_machine_as_test(
        DirectoryMachine,
        settings=settings(
            max_examples=150,
            stateful_step_count=80,
            deadline=None,
            phases=PHASES,
            suppress_health_check=list(HealthCheck),
        ),
    )
