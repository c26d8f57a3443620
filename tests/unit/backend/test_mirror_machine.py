"""A mirror equals the controller's directory after quiet, whatever got lost on the way."""

from collections import Counter
from unittest import mock

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test

from p2p.backend.following import Following, MirrorLimits
from p2p.backend.instance import InstanceCore
from p2p.wire.codec import RequestId, encode_body
from p2p.wire.decoders import CONTROLLER_REPLIES, CONTROLLER_REQUESTS
from p2p.wire.exchange import Outgoing, Sender
from tests.unit.backend.builders import OFFERS
from tests.unit.controller.instances import LAYOUT, NAMESPACE, Controller, Instance, key
from tests.unit.controller.test_directory_machine import NAMES, DirectoryMachine

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
        self.is_well = False
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

    @invariant()
    def keep_up(self):
        for _ in range(3 if self.is_well else 0):
            self.exchange()
            self.controller.now_s += 0.01

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
        for _ in range(30):
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
    ):
        run_state_machine_as_test(
            MirrorMachine,
            settings=settings(
                max_examples=60,
                stateful_step_count=40,
                deadline=None,
                phases=PHASES,
                suppress_health_check=list(HealthCheck),
            ),
        )
