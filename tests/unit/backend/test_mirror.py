"""A mirror: what it answers, when it keeps silent, when it is given up, and how it is repaired."""

from collections import Counter
from unittest import mock

import pytest

from p2p.backend.following import Following, MirrorLimits
from p2p.changes import EVICT, Changes
from p2p.keys import InstanceId
from p2p.wire.codec import RequestId
from p2p.wire.exchange import Outgoing, Sender
from p2p.wire.messages import ControllerRequest, CopyEntries, Follow
from tests.unit.backend.builders import instance_core
from tests.unit.controller.instances import LAYOUT, NAMESPACE, Controller, Instance, key, keys

SENDER = Sender(b"mirror", RequestId(1))
OTHER = Sender(b"other", RequestId(1))


class Line:
    """A controller, and an instance with a mirror."""

    def __init__(self, **limits: float) -> None:
        self.controller = Controller(recovery_s=0.0)
        own = Instance("m", layout=LAYOUT, namespace=NAMESPACE).register()
        self.membership = instance_core("m").membership
        self.membership.identity = own
        self.counters: Counter[str] = Counter()
        self.following = Following(
            self.membership,
            self.counters,
            MirrorLimits(**limits),  # type: ignore[arg-type]
        )
        self.asked: list[str] = []

    def turn(self, seconds: float = 0.05, num: int = 20) -> None:
        """Time passes, and everything due is exchanged."""
        for _ in range(num):
            now_s = self.controller.now_s
            sent = [*self.membership.poll(now_s, 0), *self.following.poll(now_s)]
            answers: list[Outgoing] = self.controller.core.tick(now_s)
            for message in sent:
                self.asked.append(type(message).__name__)
                answers += self.send(message)  # type: ignore[arg-type]
            for outgoing in answers:
                self.membership.on_answer(outgoing.message, now_s)  # type: ignore[arg-type]
                self.following.on_answer(outgoing.message, now_s)  # type: ignore[arg-type]
            self.controller.now_s += seconds

    def send(self, message: ControllerRequest) -> list[Outgoing]:
        return self.controller.core.handle(SENDER, message, self.controller.now_s)

    def tell(self, message: ControllerRequest) -> None:
        """Somebody else says something; what becomes due for the mirror by that arrives."""
        for outgoing in self.controller.send_all(message):
            if outgoing.to == SENDER:
                self.following.on_answer(outgoing.message, self.controller.now_s)  # type: ignore[arg-type]

    def found(self, *numbers: int) -> list[tuple[int, list[str]]] | None:
        """Returns length and holders of each run, None if the controller has to be asked."""
        located = self.following.locate(keys(*numbers), "", self.controller.now_s)
        if located is None:
            return None
        names = [holder.instance for holder in located.holders]
        return [(run.count, [names[n] for n in run.holders]) for run in located.runs]


def test_what_was_there_is_copied_and_what_comes_is_followed():
    line = Line()
    p = line.controller.joined("p", 1, 2)
    assert line.found(1) is None
    line.turn()
    assert line.found(1, 2, 3) == [(2, ["p"])]
    line.tell(p.admit(3))
    line.tell(p.evict(1))
    line.turn(num=2)
    assert line.found(2, 3) == [(2, ["p"])]
    assert line.found(1) == []
    assert line.asked.count("CopyEntries") == 1


def test_a_snapshot_takes_the_entries_place_without_a_copy():
    line = Line()
    p = line.controller.joined("p", 1)
    line.turn()
    line.tell(p.page(1, 0, [7], last=False, start_seq=1))
    line.turn(num=3)
    assert (line.found(1), line.found(7)) == ([(1, ["p"])], [])
    line.tell(p.page(1, 1, [8], last=True, start_seq=1))
    line.turn(num=3)
    assert (line.found(1), line.found(7, 8)) == ([], [(2, ["p"])])
    assert line.asked.count("CopyEntries") == 1


def test_a_silent_member_is_not_named_and_one_that_is_gone_is_forgotten():
    line = Line()
    p = line.controller.joined("p", 1)
    line.turn()
    line.turn(num=70)
    assert line.found(1) == []
    line.tell(p.heartbeat())
    line.turn(num=3)
    assert line.found(1) == [(1, ["p"])]
    line.tell(p.deregister())
    line.turn(num=3)
    assert line.found(1) == []


def test_a_mirror_of_which_nothing_is_heard_keeps_silent():
    line = Line(behind_s=2.0)
    line.controller.joined("p", 1)
    line.turn()
    line.controller.now_s += 2.5
    assert line.found(1) is None
    line.turn()
    assert line.found(1) is not None


def test_a_mirror_that_grows_too_large_is_given_up_and_counted():
    line = Line(max_entries=3)
    p = line.controller.joined("p", 1, 2)
    line.turn()
    assert line.found(1) is not None
    line.tell(p.admit(3, 4))
    line.turn()
    assert line.found(1) is None
    assert line.counters["mirror_given_up"] == 1
    line.asked.clear()
    line.turn()
    assert set(line.asked) == {"Heartbeat"}


def test_a_silent_drift_is_found_by_the_next_report_and_repaired():
    line = Line()
    p = line.controller.joined("p", 1, 2)
    line.turn()
    mirror = line.following.mirror
    member = mirror._group.members[InstanceId("p")]
    mirror._group.directory.apply(member.live, Changes("", bytes([EVICT]), key(1), 32))
    assert line.found(1) == []
    line.tell(p.heartbeat())
    line.turn(num=6)
    assert line.found(1, 2) == [(2, ["p"])]
    assert line.counters["mirror_drifts"] == 1


def test_a_controller_that_starts_anew_is_followed_anew():
    line = Line()
    line.controller.joined("p", 1)
    line.turn()
    now_s = line.controller.now_s
    line.controller = Controller(epoch=99, recovery_s=0.0)
    line.controller.now_s = now_s
    line.controller.joined("q", 1)
    line.turn(num=40)
    assert line.found(1) == [(1, ["q"])]


@pytest.mark.parametrize("num_followers", [1, 50])
def test_many_changes_are_told_in_few_answers(num_followers):
    controller = Controller()
    p = controller.joined("p", 1)
    followers = [controller.joined(f"f{number}") for number in range(num_followers)]
    answers: list[Outgoing] = []
    for follower in followers:
        question = Follow(
            instance=follower.name,
            incarnation=1,
            epoch=follower.epoch,
            round=1,
            after=0,
            wait_ms=1000,
        )
        answers += controller.send_all(question)
    for number in range(2, 40):
        answers += [a for a in controller.send_all(p.admit(number)) if a.to != SENDER]
    answers += controller.wait(0.2)
    told = [a for a in answers if type(a.message).__name__ == "DirectoryChanges"]
    assert len(told) == num_followers


def test_what_the_log_no_longer_has_is_copied_anew():
    line = Line()
    p = line.controller.joined("p", 1)
    line.turn()
    with mock.patch("p2p_controller.changelog.MAX_KEPT_CHANGES", 2):
        for number in range(2, 8):
            line.controller.core.handle(OTHER, p.admit(number), line.controller.now_s)
        line.tell(p.evict(1))
        line.turn()
    assert (line.found(1), line.found(*range(2, 8))) == ([], [(6, ["p"])])
    assert line.counters["mirror_starts"] == 2


def test_changes_while_a_copy_travels_go_on_top():
    line = Line()
    p = line.controller.joined("p", 1, 2)
    while "CopyEntries" not in line.asked:
        line.turn(num=1)
    late = line.following.mirror._group.members[InstanceId("p")].copy
    if late is not None:  # its page has not come yet
        raise AssertionError("the line answers at once")
    again = line.following.mirror
    again._copy(again._group.members[InstanceId("p")])
    number, page, start = again.next_copy() or (0, 0, 0)
    question = CopyEntries(
        instance="m", incarnation=1, epoch=11, round=1, number=number, page=page, start=start
    )
    (answer,) = line.send(question)
    line.tell(p.evict(1))
    line.tell(p.admit(3))
    for _ in range(3):
        line.controller.now_s += 0.05
        for message in line.following.poll(line.controller.now_s):
            if isinstance(message, Follow):
                line.send(message)
        for outgoing in line.controller.core.tick(line.controller.now_s + 0.05):
            line.following.on_answer(outgoing.message, line.controller.now_s)  # type: ignore[arg-type]
    line.following.on_answer(answer.message, line.controller.now_s)  # type: ignore[arg-type]
    assert (line.found(1), line.found(2, 3)) == ([], [(2, ["p"])])
