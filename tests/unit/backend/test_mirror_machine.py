"""A mirror equals the controller's directory after quiet, whatever got lost on the way."""

from collections import Counter
from unittest import mock

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from p2p.backend.following import Following, MirrorLimits
from p2p.backend.instance import InstanceCore
from p2p.backend.mirror import MirrorMember
from p2p.changes import Changes
from p2p.wire.codec import RequestId, encode_body
from p2p.wire.decoders import CONTROLLER_REPLIES, CONTROLLER_REQUESTS
from p2p.wire.exchange import Outgoing, Sender
from p2p.wire.messages import CopyEntries, EntriesPage, Events
from tests.unit.backend.builders import OFFERS
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
from tests.unit.controller.test_directory_machine import (
    NAME,
    NAMES,
    NUMBERS,
    DirectoryMachine,
    Fate,
)

PHASES = tuple(Phase)
ROUTE = b"mirror"


class Shared(Controller):
    """A controller whose answers to the mirror wait for it, whoever made them due."""

    def __init__(self, controller: Controller) -> None:
        self.core, self.now_s = controller.core, controller.now_s
        self.late: list[Outgoing] = []

    def send_all(self, message):
        answers = super().send_all(message)
        self.late += [answer for answer in answers if answer.to.route == ROUTE]
        return [answer for answer in answers if answer.to.route != ROUTE]


class MirrorMachine(DirectoryMachine):
    """One more instance, which follows; its line loses what the test draws."""

    def __init__(self) -> None:
        super().__init__()
        self.is_well = self.has_drifted = False
        self.num_rotten = 0
        identity = Instance("m", layout=LAYOUT, namespace=NAMESPACE).register()
        self.core = InstanceCore(identity, OFFERS, 4)
        self.counters: Counter[str] = Counter()
        self.following = Following(self.core.membership, self.counters, MirrorLimits())

    @property
    def shared(self) -> Shared:
        assert isinstance(self.controller, Shared)
        return self.controller

    def exchange(self, *, loses: frozenset[int] = frozenset()) -> None:
        """Everything due is said; of all messages those with these numbers are lost."""
        now_s = self.controller.now_s
        core = self.controller.core
        sent = [*self.core.membership.poll(now_s, 0), *self.following.poll(now_s)]
        answers = self.shared.late + core.tick(now_s)
        self.shared.late = []
        for number, message in enumerate(sent):
            if number not in loses:
                request = CONTROLLER_REQUESTS.decode(encode_body(message))
                answers += core.handle(Sender(ROUTE, RequestId(number)), request, now_s)
        for number, outgoing in enumerate(answers):
            if outgoing.to.route == ROUTE and number + 10 not in loses:
                answer = CONTROLLER_REPLIES.decode(encode_body(outgoing.message))
                self.core.membership.on_answer(answer, now_s)
                self.following.on_answer(answer, now_s)

    def copy_pages(self, num_max: int) -> None:
        """Pages of copies travel; changes are on their way for longer."""
        now_s, core = self.controller.now_s, self.controller.core
        for number in range(num_max):
            for message in self.following.poll(now_s):
                if isinstance(message, CopyEntries):
                    for outgoing in core.handle(Sender(ROUTE, RequestId(number)), message, now_s):
                        if isinstance(outgoing.message, EntriesPage):
                            self.following.on_answer(outgoing.message, now_s)
                        elif outgoing.to.route == ROUTE:
                            self.shared.late.append(outgoing)

    def other_answers(self, answers: list[Outgoing]) -> None:
        self.shared.late += answers

    def _controller(self):
        return Shared(super()._controller())

    @rule(loses=st.frozensets(st.integers(0, 14), max_size=4), seconds=st.sampled_from([0.0, 0.1]))
    def follow(self, loses, seconds):
        self.exchange(loses=loses)
        self.controller.now_s += seconds

    @initialize(is_well=st.booleans())
    def line_begins(self, is_well):
        self.is_well = is_well

    @rule(is_well=st.sampled_from([True, True, False]))
    def line_is_well(self, is_well):
        """From now on the mirror keeps up with every step, or does not."""
        self.is_well = is_well

    @rule(
        name=NAME,
        batches=st.lists(
            st.tuples(
                st.sampled_from([EVICT, DEVICE, HOST]), st.lists(NUMBERS, min_size=1, max_size=3)
            ),
            min_size=4,
            max_size=40,
        ),
    )
    def fall_behind(self, name, batches):
        """So much changes unheard that the controller's log may not reach back."""
        for kind, numbers in batches:
            self._send(name, self.players[name].tell(kind, numbers, ""), Fate.ARRIVES)

    @precondition(lambda self: self._copied())
    @rule(number=st.integers(0, 3))
    def copy_again(self, number):
        """A copy begins for no reason; changes come in while its pages travel."""
        members = self._copied()
        self.following.mirror._copy(members[number % len(members)])

    @rule(
        name=NAME,
        num_pages=st.integers(0, 3),
        changes=st.lists(
            st.tuples(st.sampled_from([EVICT, DEVICE, HOST]), NUMBERS), min_size=1, max_size=4
        ),
    )
    def change_while_copied(self, name, num_pages, changes):
        """Entries change between two pages of a copy, which is whole before the news is here."""
        player = self.players[name]
        for member in self._copied():
            if member.instance == name and member.copy is None:
                self.following.mirror._copy(member)
        self.copy_pages(num_pages)
        for kind, number in changes:
            self._send(name, player.tell(kind, [number], ""), Fate.ARRIVES)
            self._send(name, player.heartbeat(), Fate.ARRIVES)
        self.copy_pages(12)
        for _ in range(4):
            self.exchange()
            self.controller.now_s += 0.01

    @precondition(lambda self: self._current())
    @rule(number=st.integers(0, 3), kind=st.sampled_from([EVICT, DEVICE, HOST]), chunk=NUMBERS)
    def late_page(self, number, kind, chunk):
        """A page of an earlier copy arrives during a later one; entries changed between."""
        member = self._current()[number % len(self._current())]
        late = self._first_page_of(member)
        self.follow_for_long()
        self._send(member.instance, self._tell(member, kind, chunk), Fate.ARRIVES)
        self.follow_for_long()
        if late is not None and member in self._current():
            self.following.mirror._copy(member)
            self.following.on_answer(late, self.controller.now_s)
            self.follow_for_long()

    @precondition(lambda self: self._current())
    @rule(number=st.integers(0, 3))
    def mirror_rots(self, number):
        """An entry of the mirror goes wrong by itself; the member's next report repairs it."""
        member = self._current()[number % len(self._current())]
        entries = self.following.mirror.entries_of(member.instance)
        if entries and member.copy is None:
            (tenant, chunk), *_ = sorted(entries)
            rot = Changes(tenant, bytes([EVICT]), chunk, 32)
            self.following.mirror._group.directory.apply(member.live, rot)
            self.num_rotten += 1
        self._send(member.instance, self.players[member.instance].heartbeat(), Fate.ARRIVES)
        self.follow_for_long()

    @rule(name=NAME, changes=st.lists(NUMBERS, min_size=3, max_size=9, unique=True))
    def begin_amid_snapshot(self, name, changes):
        """The mirror begins after a snapshot of somebody has, and copies before it is complete."""
        player = self.players[name]
        player.tell(DEVICE, changes, "")  # unheard: only the snapshot tells of it
        pages = player.snapshot()
        self._send(name, pages[0], Fate.ARRIVES)
        self.following._start_over()
        for _ in range(8):
            self.exchange()
            self.controller.now_s += 0.01
        for page in pages[1:]:
            self._send(name, page, Fate.ARRIVES)

    @invariant()
    def keep_up(self):
        for _ in range(3 if self.is_well else 0):
            self.exchange()
            self.controller.now_s += 0.01

    @invariant()
    def what_is_known_is_exact(self):
        """At the position that the mirror has reached, whenever that is the controller's."""
        self.has_drifted |= bool(self.tampered)
        if not self.has_drifted:
            assert self.counters["mirror_drifts"] <= self.num_rotten
        group = self.controller.core._state.groups.get(NAMESPACE.id)
        mirror = self.following.mirror
        is_ours = self.following._epoch == self.controller.core.epoch
        if group is None or not is_ours or mirror.position != group.log.last:
            return
        assert mirror._group.members.keys() == group.members.keys()
        for name, known in mirror._group.members.items():
            member = group.members[name]
            assert known.number == member.number
            assert known.is_returned == member.is_returned
            if known.is_known and known.copy is None and not self.has_drifted:
                assert mirror.entries_of(name) == self.controller.core.entries_of(name)

    def follow_for_long(self) -> None:
        """News and copies arrive."""
        for _ in range(6):
            self.exchange()
            self.controller.now_s += 0.01

    def _tell(self, member: MirrorMember, kind: int, chunk: int) -> Events:
        return self.players[member.instance].tell(kind, [chunk], "")

    def _first_page_of(self, member: MirrorMember) -> EntriesPage | None:
        question = CopyEntries(
            instance="m",
            incarnation=self.core.identity.incarnation,
            epoch=self.following._epoch,
            round=self.following._registration,
            number=member.number,
            page=0,
            start=0,
        )
        core, now_s = self.controller.core, self.controller.now_s
        answers = core.handle(Sender(ROUTE, RequestId(99)), question, now_s)
        self.shared.late += [a for a in answers if not isinstance(a.message, EntriesPage)]
        pages = [a.message for a in answers if isinstance(a.message, EntriesPage)]
        return pages[0] if pages else None

    def _current(self) -> list[MirrorMember]:
        """Returns the members that their instance's newest start is, with this controller."""
        epoch = self.controller.core.epoch
        return [
            member
            for member in self._copied()
            if (player := self.players[member.instance]).epoch == epoch == self.following._epoch
            and player.incarnation == member.registered.incarnation
            and player.namespace == NAMESPACE
        ]

    def _copied(self) -> list[MirrorMember]:
        members = self.following.mirror._by_number.values()
        return [m for m in members if m.is_known and m.instance in self.players]

    @rule(numbers=st.lists(st.integers(1, 9), min_size=1, max_size=5))
    def mirror_is_equal(self, numbers):
        """After quiet."""
        self.be_quiet()
        for _ in range(60):
            self.exchange()
            self.controller.now_s += 0.1
            for player in self.players.values():
                self._deliver(player, player.heartbeat())
        self.be_quiet()
        for _ in range(90):  # a copy has up to ten pages, and what it follows as many answers
            self.exchange()
            self.controller.now_s += 0.05
        now_s = self.controller.now_s
        assert self.following.is_current(now_s)
        members = self.following.mirror._group.members
        for name in NAMES:
            member = self.model.members.get(name)
            is_ours = member is not None and member.namespace == NAMESPACE.id
            assert (name in members) == is_ours
            entries = self.controller.core.entries_of(name) if is_ours else {}
            assert self.following.mirror.entries_of(name) == entries
        for tenant in ("", "t"):
            mine = self.following.locate([key(n) for n in numbers], tenant, now_s)
            theirs = self.controller.locate(*numbers, asker="m", tenant=tenant)
            assert mine is not None
            assert _plain(mine) == _plain(theirs)


def _plain(located):
    names = [holder.instance for holder in located.holders]
    runs = [
        (run.start, run.count, sorted(zip([names[n] for n in run.holders], run.tiers, strict=True)))
        for run in located.runs
    ]
    addresses = {(h.instance, h.incarnation, h.address, h.load_bytes) for h in located.holders}
    return runs, addresses, located.partial


def test_a_mirror_equals_the_directory():
    with (
        mock.patch("p2p_controller.feed.HISTORY_EVENTS", 2),
        mock.patch("p2p_controller.changelog.MAX_KEPT_CHANGES", 30),
        mock.patch("p2p_controller.changelog.MAX_CHANGES", 8),
        mock.patch("p2p.holding._PIECE_KEYS", 2),
    ):
        run_state_machine_as_test(
            MirrorMachine,
            settings=settings(
                max_examples=120,
                stateful_step_count=40,
                deadline=None,
                phases=PHASES,
                suppress_health_check=list(HealthCheck),
            ),
        )
