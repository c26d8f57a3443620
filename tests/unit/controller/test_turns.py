"""After a restart everybody comes back at once; few snapshots travel at a time, all get through."""

from collections import deque
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from p2p.backend.feed import Snapshot
from p2p.backend.instance import InstanceCore
from p2p.keys import InstanceId
from p2p.wire.codec import RequestId
from p2p.wire.exchange import Outgoing, Sender
from p2p.wire.messages import (
    CopyEntries,
    EntriesPage,
    FeedStatus,
    Follow,
    SnapshotPage,
    SnapshotTurn,
)
from tests.unit.backend.builders import instance_core, prompt
from tests.unit.controller.instances import Controller, Instance, keys

if TYPE_CHECKING:
    from p2p.wire.messages import ControllerRequest

NUM_CHUNKS = 12


class Crowd:
    """Instances with history, and a controller that takes one message at a time."""

    def __init__(self, num_instances: int, num_pages: int) -> None:
        self.controller = Controller(epoch=2, snapshot_pages=num_pages, recovery_s=1.0)
        self.cores = [_with_history(f"i{number}") for number in range(num_instances)]
        self.queue: deque[tuple[InstanceCore, Sender, ControllerRequest]] = deque()
        self.most_pages = 0

    def turn(self, seconds: float) -> None:
        """Everybody says what is due; then the controller works through its queue."""
        self.controller.now_s += seconds
        for core in self.cores:
            self._say(core)
        while self.queue:
            pages = sum(isinstance(message, SnapshotPage) for _, _, message in self.queue)
            self.most_pages = max(self.most_pages, pages)
            _, sender, message = self.queue.popleft()
            controller = self.controller
            for outgoing in controller.core.handle(sender, message, controller.now_s):
                core = self.cores[int(outgoing.to.route)]
                core.membership.on_answer(outgoing.message, controller.now_s)  # type: ignore[arg-type]
                self._say(core)

    def _say(self, core: InstanceCore) -> None:
        route = str(self.cores.index(core)).encode()
        for message in core.membership.poll(self.controller.now_s, 0):
            self.queue.append((core, Sender(route, RequestId(1)), message))  # type: ignore[arg-type]


def _with_history(name: str) -> InstanceCore:
    core = instance_core(name, NUM_CHUNKS)
    for placement in core.begin_put(prompt(NUM_CHUNKS, salt=name), ""):
        core.commit(placement, (1,), "")
    return core


@pytest.mark.parametrize(("num_pages", "num_instances"), [(1, 5), (4, 100), (4, 2)])
def test_few_pages_are_under_way_and_everybody_gets_in_step(num_pages, num_instances):
    crowd = Crowd(num_instances, num_pages)
    with mock.patch.object(Snapshot, "PAGE_EVENTS", 2):
        for _ in range(20):
            crowd.turn(0.1)
    assert all(core.membership.is_advertised() for core in crowd.cores)
    for core in crowd.cores:
        assert len(crowd.controller.core.entries_of(core.identity.instance)) == NUM_CHUNKS
    assert 1 <= crowd.most_pages <= 2 * num_pages  # a share shrinks when others join in


def ask(instance: Instance) -> SnapshotTurn:
    return SnapshotTurn(
        instance=instance.name, incarnation=instance.incarnation, epoch=instance.epoch
    )


def test_a_turn_in_which_nothing_comes_passes_to_the_next():
    controller = Controller(snapshot_pages=1)
    p, q = controller.joined("p", 1), controller.joined("q", 1)
    controller.send(p.page(1, 0, [1], last=False, start_seq=1))
    assert controller.send_all(ask(q)) == []
    controller.now_s += 2.0
    assert controller.core.tick(controller.now_s) == []
    assert controller.core.next_deadline_s(controller.now_s) <= controller.now_s + 1.0
    controller.status_after(q.heartbeat())
    controller.now_s += 1.0
    (granted,) = controller.core.tick(controller.now_s)
    assert isinstance(granted.message, FeedStatus)
    assert granted.message.pages == 1
    assert controller.count("turns_stalled") == 1


def test_who_leaves_passes_its_turn_on():
    controller = Controller(snapshot_pages=1)
    p, q = controller.joined("p", 1), controller.joined("q", 1)
    assert controller.status_after(p.page(1, 0, [1], last=False, start_seq=1)).pages == 1
    assert controller.status_after(q.heartbeat()).pages == 0
    assert controller.send_all(ask(q)) == []
    assert len(controller.send_all(p.deregister())) == 2


# ---------------------------------------------------------------------- copies for mirrors


def wish(follower: Instance, number: int, page: int = 0, start: int = 0) -> CopyEntries:
    return CopyEntries(
        instance=follower.name,
        incarnation=follower.incarnation,
        epoch=follower.epoch,
        round=1,
        number=number,
        page=page,
        start=start,
    )


def pages(answers: list[Outgoing]) -> list[EntriesPage]:
    return [answer.message for answer in answers if isinstance(answer.message, EntriesPage)]


@pytest.fixture
def copied() -> tuple[Controller, int, list[Instance]]:
    """A member with three pages of entries, and 512 that want them at once; two have a turn."""
    controller = Controller(snapshot_pages=2)
    with mock.patch("p2p.holding._PIECE_KEYS", 2):
        p = controller.joined("p", 1, 2, 3, 4, 5)
    number = controller.core._state.members.by_id[InstanceId("p")].number
    followers = [controller.joined(f"f{n}") for n in range(512)]
    assert p.last_seq == 5
    return controller, number, followers


def test_two_mirrors_copy_at_a_time_and_all_get_everything(copied):
    controller, number, followers = copied
    got: dict[str, list[EntriesPage]] = {one.name: [] for one in followers}
    queue = deque((one, controller.send_all(wish(one, number))) for one in followers)
    assert sum(len(pages(answers)) for _, answers in queue) == 2
    served, waiting = deque(followers[:2]), deque(followers[2:])
    got[followers[0].name] += pages(queue[0][1])
    got[followers[1].name] += pages(queue[1][1])
    while served:
        one = served.popleft()
        last = got[one.name][-1]
        first, *others = pages(
            controller.send_all(wish(one, number, page=last.page + 1, start=last.start))
        )
        got[one.name].append(first)
        assert len(others) == int(first.is_last and bool(waiting)), "a turn passes to one"
        if others:
            heir = waiting.popleft()
            got[heir.name] += others
            served.append(heir)
        if not first.is_last:
            served.append(one)
    assert not waiting
    for parts in got.values():
        assert b"".join(part.keys for part in parts) == b"".join(keys(1, 2, 3, 4, 5))
        assert [part.page for part in parts] == [0, 1, 2]
    (group,) = controller.core._state.groups.values()
    assert len(group.copies) == 0


def test_copies_of_one_member_do_not_restart_each_other(copied):
    controller, number, (one, other, *_) = copied
    controller.send_all(follow(one))
    (first,) = pages(controller.send_all(wish(one, number)))
    q = controller.joined("q", 9)
    assert q.last_seq == 1
    (second,) = pages(controller.send_all(wish(other, number)))
    assert second.start > first.start
    for asker, begun in ((one, first), (other, second)):
        question = wish(asker, number, page=1, start=begun.start)
        (page,) = pages(controller.send_all(question))
        assert (page.page, page.start) == (1, begun.start)


def test_the_turn_of_a_mirror_that_asks_no_more_passes_on(copied):
    controller, number, (one, other, third, *_) = copied
    for asker in (one, other):
        assert len(pages(controller.send_all(wish(asker, number)))) == 1
    assert pages(controller.send_all(wish(third, number))) == []
    controller.now_s += 2.0
    controller.status_after(third.heartbeat())
    assert pages(controller.core.tick(controller.now_s)) == []
    controller.now_s += 1.0
    (page,) = pages(controller.core.tick(controller.now_s))
    assert (page.page, page.keys) == (0, b"".join(keys(1, 2)))


def follow(follower: Instance) -> Follow:
    return Follow(
        instance=follower.name,
        incarnation=follower.incarnation,
        epoch=follower.epoch,
        round=1,
        after=0,
        wait_ms=1000,
    )
