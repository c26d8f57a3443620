"""Acknowledging, gaps, replays, snapshots under change, and everything out of order."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.wire.messages import Events, Refusal, RefusalCode, SnapshotPage, Want
from p2p_controller.feed import HISTORY_EVENTS
from tests.unit.controller.instances import DEVICE, HOST, Controller, Instance, key


def test_batches_are_acknowledged_up_to_their_last_event():
    controller = Controller()
    p = controller.joined("p")
    assert controller.status_after(p.admit(1, 2, 3)).acked_seq == 3
    assert controller.status_after(p.evict(2)).acked_seq == 4
    assert controller.is_equal(p)


def test_a_batch_that_came_twice_counts_once():
    controller = Controller()
    p = controller.joined("p")
    batch, undone = p.admit(1), p.evict(1)
    for message in (batch, undone, batch, undone):
        controller.send(message)
    status = controller.status_after(batch)
    assert (status.acked_seq, status.want) == (2, Want.NOTHING)
    assert controller.is_equal(p)
    assert controller.count("batches_duplicate") == 3


def test_an_overlapping_batch_adds_only_what_is_new():
    controller = Controller()
    p = controller.joined("p")
    batch = p.admit(1, 2, 3, 4)
    head = msgspec.structs.replace(batch, kinds=batch.kinds[:2], keys=batch.keys[:64])
    assert controller.status_after(head).acked_seq == 2
    assert controller.status_after(batch).acked_seq == 4
    assert controller.is_equal(p)


@pytest.mark.parametrize("seed", range(20))
def test_batches_in_any_order_end_in_the_same_state(seed):
    controller = Controller()
    p = controller.joined("p")
    batches = []
    choice = random.Random(seed)  # noqa: S311
    for _ in range(30):
        numbers = [choice.randrange(8) for _ in range(choice.randrange(1, 4))]
        batches.append(choice.choice([p.admit, p.evict])(*numbers))
    choice.shuffle(batches)
    for batch in batches + choice.sample(batches, 10):
        controller.send(batch)
    status = controller.status_after(batches[0])
    assert (status.acked_seq, status.want) == (p.last_seq, Want.NOTHING)
    assert controller.is_equal(p)


def test_nothing_behind_a_gap_is_applied():
    controller = Controller()
    p = controller.joined("p")
    lost = p.admit(1)
    controller.send(p.admit(2))
    controller.send(p.admit(3))
    assert controller.core.entries_of("p") == {}
    assert controller.status_after(lost).acked_seq == 3
    assert controller.count("gaps") == 1


def test_what_is_kept_behind_a_gap_is_bounded_and_asked_for_again():
    controller = Controller(max_kept_events=4)
    p = controller.joined("p")
    lost = p.admit(1)
    kept, dropped = p.admit(2, 3, 4), p.admit(5, 6)
    controller.send(kept)
    assert controller.status_after(dropped).want is Want.REPLAY
    assert controller.status_after(lost).acked_seq == 4
    status = controller.status_after(p.heartbeat())
    assert (status.want, status.acked_seq) == (Want.REPLAY, 4)
    assert controller.status_after(dropped).want is Want.NOTHING
    assert controller.is_equal(p)


def test_a_lost_last_batch_is_noticed_by_the_heartbeat():
    controller = Controller()
    p = controller.joined("p", 1)
    lost = p.admit(2)
    assert controller.status_after(p.heartbeat()).want is Want.REPLAY
    assert controller.status_after(lost).want is Want.NOTHING


def test_drift_is_noticed_by_the_heartbeat_and_repaired_by_a_snapshot():
    controller = Controller()
    p = controller.joined("p", 1, 2)
    p.index = {("", key(1)): DEVICE, ("", key(5)): DEVICE}  # its index changed and no event told
    for _ in range(3):
        assert controller.status_after(p.heartbeat()).want is Want.SNAPSHOT
    assert controller.count("drifts") == 1
    status = controller.status_after(p.page(1, 0, [1, 5], last=True, start_seq=2))
    assert status.want is Want.NOTHING
    assert controller.is_equal(p)
    assert controller.status_after(p.heartbeat()).want is Want.NOTHING


def test_a_wrong_tier_is_drift_as_well():
    controller = Controller()
    p = controller.joined("p", 1, 2)
    p.index["", key(1)] = HOST
    assert controller.status_after(p.heartbeat()).want is Want.SNAPSHOT
    page = p.page(1, 0, [1, 2], last=True, start_seq=2)
    controller.send(msgspec.structs.replace(page, kinds=bytes([HOST, DEVICE])))
    assert controller.status_after(p.heartbeat()).want is Want.NOTHING


def test_a_late_heartbeat_is_no_drift():
    controller = Controller()
    p = controller.joined("p", 1)
    late = p.heartbeat()
    controller.send(p.admit(2))
    assert controller.status_after(late).want is Want.NOTHING
    assert controller.count("heartbeats_late") == 1


def test_a_snapshot_is_seen_as_a_whole_or_not_at_all():
    controller = Controller()
    p = controller.joined("p", 1, 2)
    controller.send(p.page(1, 0, [3, 4], last=False, start_seq=2))
    assert controller.runs(1, 2) == [(0, 2, ["p"])]
    assert controller.runs(3) == []
    controller.send(p.page(1, 1, [5], last=True, start_seq=2))
    assert controller.runs(1) == []
    assert controller.runs(3, 4, 5) == [(0, 3, ["p"])]


def test_a_snapshot_begins_ahead_of_what_is_acknowledged():
    controller = Controller()
    p = controller.join(Instance("p", last_seq=1000))
    controller.send(p.admit(7))  # number 1001 overtakes the first page
    controller.send(p.page(1, 0, [1], last=False, start_seq=1000))
    controller.send(p.admit(8))
    status = controller.status_after(p.page(1, 1, [2], last=True, start_seq=1000))
    assert (status.acked_seq, status.want) == (1002, Want.NOTHING)
    assert controller.core.entries_of("p").keys() == {("", key(n)) for n in (1, 2, 7, 8)}


def test_a_missing_page_is_told_by_the_last_one_taken():
    controller = Controller()
    p = controller.joined("p")
    pages = [p.page(1, n, [n], last=n == 3, start_seq=0) for n in range(4)]
    p.index = {("", key(n)): DEVICE for n in range(4)}
    assert controller.status_after(pages[0]).synced_page == 0
    assert controller.status_after(pages[2]).synced_page == 0
    assert controller.status_after(pages[3]).synced_page == 0
    assert controller.count("pages_out_of_order") == 2
    controller.send(pages[1])
    controller.send(pages[2])
    status = controller.status_after(pages[3])
    assert (status.sync, status.synced_page, status.want) == (1, 3, Want.NOTHING)
    assert controller.is_equal(p)


def test_pages_of_a_superseded_snapshot_change_nothing():
    controller = Controller()
    p = controller.joined("p")
    old = [p.page(1, n, [50 + n], last=n == 1, start_seq=0) for n in range(2)]
    controller.send(old[0])
    controller.send(p.page(2, 0, [1], last=False, start_seq=0))
    assert controller.status_after(old[1]).sync == 2
    controller.send(p.page(2, 1, [2], last=True, start_seq=0))
    controller.send(old[1])
    p.index = {("", key(1)): DEVICE, ("", key(2)): DEVICE}
    assert controller.is_equal(p)
    assert controller.count("pages_superseded") == 2


def test_a_completed_snapshot_is_not_taken_twice():
    controller = Controller()
    p = controller.joined("p", 1)
    page = p.page(1, 0, [1], last=True, start_seq=1)
    controller.send(page)
    controller.send(p.evict(1))
    status = controller.status_after(page)
    assert (status.synced_page, status.acked_seq) == (0, 2)
    assert controller.is_equal(p)


def test_a_snapshot_that_stalls_is_asked_for_anew_and_may_still_go_on():
    controller = Controller()
    p = controller.joined("p")
    controller.send(p.page(1, 0, [1], last=False, start_seq=0))
    assert controller.status_after(p.heartbeat()).want is Want.NOTHING
    controller.now_s += 2.0
    controller.send(p.heartbeat())
    controller.now_s += 2.0
    status = controller.status_after(p.heartbeat())
    assert (status.want, status.synced_page) == (Want.SNAPSHOT, 0)
    assert controller.count("syncs_stalled") == 1
    status = controller.status_after(p.page(1, 1, [2], last=True, start_seq=0))
    assert (status.want, status.synced_page) == (Want.NOTHING, 1)


def test_a_snapshot_from_before_what_is_remembered_is_refused():
    controller = Controller()
    p = controller.joined("p")
    for _ in range(2 * HISTORY_EVENTS // 1024 + 1):
        controller.send(p.admit(*range(1024)))
    status = controller.status_after(p.page(1, 0, [1], last=True, start_seq=10))
    assert status.want is Want.SNAPSHOT
    assert controller.count("snapshots_too_old") == 1
    status = controller.status_after(
        p.page(2, 0, list(range(1024)), last=True, start_seq=p.last_seq)
    )
    assert status.want is Want.NOTHING
    assert controller.is_equal(p)


def test_events_during_a_snapshot_beyond_the_bound_are_not_acknowledged():
    controller = Controller(max_kept_events=4)
    p = controller.joined("p")
    controller.send(p.page(1, 0, [], last=False, start_seq=0))
    batches = [p.admit(n) for n in range(8)]
    acked = [controller.status_after(batch).acked_seq for batch in batches]
    assert acked == [1, 2, 3, 4, 4, 4, 4, 4]
    controller.send(p.page(1, 1, [], last=True, start_seq=0))
    assert controller.status_after(p.heartbeat()).want is Want.REPLAY
    for batch in batches:
        controller.send(batch)
    assert controller.is_equal(p)


def test_swept_entries_leave_nothing_behind():
    controller = Controller()
    p = controller.joined("p", *range(50))
    for sync in range(1, 4):
        controller.send(p.page(sync, 0, list(range(50)), last=True, start_seq=p.last_seq))
    controller.wait(0.1)
    assert (controller.state().num_keys, controller.state().num_entries) == (50, 50)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("keys", {"keys": bytes(31)}),
        ("keys", {"keys": bytes(64)}),
        ("keys", {"kinds": bytes([1, 1])}),
        ("kinds", {"kinds": bytes([3])}),
        ("first_seq", {"first_seq": 0}),
        ("first_seq", {"first_seq": 1 << 63}),
    ],
)
def test_a_batch_that_cannot_be_meant_is_refused_as_a_whole(field, changes):
    controller = Controller()
    p = controller.joined("p")
    reply = controller.send(msgspec.structs.replace(p.admit(1), **changes))
    assert isinstance(reply, Refusal)
    assert (reply.code, reply.field) == (RefusalCode.MALFORMED, field)
    assert controller.core.entries_of("p") == {}
    assert controller.count("malformed") == 1


def test_a_page_that_cannot_be_meant_is_refused():
    controller = Controller()
    p = controller.joined("p")
    page = p.page(1, 0, [1], last=True, start_seq=0)
    for changes in ({"start_seq": 1 << 63}, {"kinds": bytes([9])}, {"keys": b"x"}):
        reply = controller.send(msgspec.structs.replace(page, **changes))
        assert isinstance(reply, Refusal)
    different = msgspec.structs.replace(page, page=1, start_seq=5)
    controller.send(msgspec.structs.replace(page, last=False))
    assert controller.status_after(different).synced_page == 0
    assert controller.count("pages_inconsistent") == 1


def test_an_empty_batch_changes_nothing():
    controller = Controller()
    p = controller.joined("p", 1)
    empty = msgspec.structs.replace(p.admit(2), kinds=b"", keys=b"", first_seq=99)
    assert controller.status_after(empty).want is Want.NOTHING


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.lists(st.integers(0, 9), min_size=1, max_size=3)),
        st.tuples(st.just("evict"), st.lists(st.integers(0, 9), min_size=1, max_size=3)),
        st.tuples(st.just("begin"), st.just([])),
        st.tuples(st.just("page"), st.lists(st.integers(0, 9), max_size=4)),
    ),
    max_size=40,
)


@given(STEPS, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_snapshots_taken_while_the_index_changes_end_in_its_state(steps, choice):
    """Messages of random steps are delivered late, twice or not at all; then repair is done."""
    controller = Controller()
    p = controller.joined("p")
    sent = list[Events]()
    waiting = list[Events | SnapshotPage]()
    sync = page = start = 0
    for kind, numbers in steps:
        if kind in {"admit", "evict"}:
            batch = p.admit(*numbers) if kind == "admit" else p.evict(*numbers)
            sent.append(batch)
            waiting.append(batch)
        elif kind == "begin" or not sync:
            sync, page, start = sync + 1, 0, p.last_seq
        else:
            held = [n for n in numbers if ("", key(n)) in p.index]
            waiting.append(p.page(sync, page, held, last=False, start_seq=start))
            page += 1
        while waiting and choice.random() < 0.5:
            message = waiting.pop(choice.randrange(len(waiting)))
            for _ in range(choice.choice([0, 1, 1, 2])):
                controller.send(message)
    _repair(controller, p, sent, sync + 1)
    assert controller.is_equal(p)


def _repair(controller, p, sent, sync):
    """Does what an instance does: replays what is wanted, or sends a snapshot of all."""
    for _ in range(8):
        status = controller.status_after(p.heartbeat())
        if status.want is Want.NOTHING and status.acked_seq == p.last_seq:
            if controller.is_equal(p):
                return
            controller.now_s += 1.0  # an unfinished snapshot: it stalls
        elif status.want is Want.REPLAY:
            for batch in sent:
                controller.send(batch)
        else:
            controller.now_s += 1.0
            held = [int.from_bytes(k, "big") for _, k in p.index]
            controller.send(p.page(sync, 0, held, last=True, start_seq=p.last_seq))
            sync += 1
