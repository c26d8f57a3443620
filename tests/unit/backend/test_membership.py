"""The bond with the controller: whatever gets lost, the directory ends up with what is here."""

import pytest

from p2p.backend.feed import Snapshot
from p2p.backend.membership import MAX_BATCH_EVENTS, BondState
from p2p.wire.messages import (
    Events,
    FeedStatus,
    Heartbeat,
    Refusal,
    RefusalCode,
    Register,
    Registered,
    SnapshotPage,
    Want,
)
from tests.unit.backend.bond import Bond
from tests.unit.backend.builders import prompt, put

KEYS = prompt(8)


@pytest.fixture
def bond():
    bond = Bond()
    bond.turn()
    assert bond.member.state is BondState.BONDED
    return bond


def _batches(bond):
    return [message for message in bond.controller.received if isinstance(message, Events)]


def test_the_first_message_registers_and_the_next_is_a_heartbeat():
    bond = Bond()
    assert bond.turn() == [Register]
    assert bond.turn() == [Heartbeat]
    assert bond.member.is_advertised()


def test_chunks_that_were_here_before_come_as_a_snapshot():
    bond = Bond()
    put(bond.core, KEYS)
    bond.turn()
    assert bond.turn() == [SnapshotPage, Heartbeat]
    assert bond.is_true()
    assert bond.member.acked_seq == 8


def test_changes_are_sent_at_once_and_forgotten_when_acknowledged(bond):
    put(bond.core, KEYS)
    bond.core.drop(bond.core.index.prefix(KEYS, "")[7])
    assert not bond.member.is_advertised()
    assert Events in bond.turn()
    assert bond.is_true()
    assert bond.member.is_advertised()
    assert bond.core.feed.first_kept_seq == 10


def test_a_repeated_question_is_asked_after_half_a_second():
    bond = Bond()
    bond.lost = {Register}
    assert bond.turn() == [Register]
    assert bond.turn(0.4) == []
    assert bond.member.next_deadline_s(bond.now_s) == 0.5
    assert bond.turn(0.1) == [Register]
    assert bond.member.num_unanswered == 2


@pytest.mark.parametrize("kind", [Events, FeedStatus])
def test_a_lost_batch_or_answer_is_made_good(bond, kind):
    put(bond.core, KEYS)
    bond.lost = {kind}
    bond.turn()
    bond.lost = set()
    bond.settle()
    assert bond.is_true()


@pytest.mark.parametrize("heartbeat_ms", [100, 1000])
@pytest.mark.parametrize("kind", [SnapshotPage, FeedStatus])
def test_a_lost_page_or_answer_is_made_good(monkeypatch, kind, heartbeat_ms):
    monkeypatch.setattr(Snapshot, "PAGE_EVENTS", 2)
    bond = Bond()
    bond.controller.heartbeat_ms = heartbeat_ms
    put(bond.core, KEYS)
    bond.turn()
    bond.lost = {kind}
    bond.turn()
    bond.lost = set()
    bond.settle()
    assert bond.is_true()


def test_a_lost_first_page_is_sent_again_with_those_behind_it(monkeypatch):
    monkeypatch.setattr(Snapshot, "PAGE_EVENTS", 2)
    bond = Bond()
    put(bond.core, KEYS)
    bond.turn()
    pages = [page for page in bond.member.poll(0.0, 0) if isinstance(page, SnapshotPage)]
    for page in pages[1:]:
        bond.member.on_answer(bond.controller.take(page), 0.0)
    assert not bond.member.is_advertised()
    bond.settle()
    assert bond.is_true()


def test_answers_to_an_earlier_snapshot_do_not_complete_the_present_one():
    bond = Bond()
    put(bond.core, KEYS)
    bond.turn()
    bond.member.poll(0.0, 0)
    bond.member.on_answer(Refusal(code=RefusalCode.UNKNOWN_INSTANCE), 0.0)
    bond.lost = {SnapshotPage, Heartbeat}
    bond.turn()
    bond.turn()
    bond.member.on_answer(FeedStatus(epoch=1, acked_seq=8, sync=1, synced_page=0), 0.0)
    assert not bond.member.is_advertised()
    bond.lost = set()
    bond.settle()
    assert bond.is_true()


def test_no_more_pages_are_under_way_than_the_window_allows(monkeypatch):
    monkeypatch.setattr(Snapshot, "PAGE_EVENTS", 1)
    bond = Bond()
    put(bond.core, KEYS)
    bond.turn()
    bond.lost = {FeedStatus}
    assert bond.turn().count(SnapshotPage) == 4
    assert bond.turn().count(SnapshotPage) == 0
    assert bond.turn(0.5).count(SnapshotPage) == 4, "again from the last page that was taken"


def test_changes_during_a_snapshot_are_replayed_on_top_of_it(monkeypatch):
    monkeypatch.setattr(Snapshot, "PAGE_EVENTS", 2)
    bond = Bond()
    put(bond.core, KEYS)
    bond.turn()
    bond.lost = {FeedStatus}
    bond.turn()
    bond.core.clear()
    put(bond.core, prompt(3, salt="new"))
    bond.lost = set()
    bond.settle()
    assert bond.is_true()
    assert _batches(bond)[0].first_seq == 9


def test_a_replay_starts_behind_what_the_controller_has(bond):
    put(bond.core, KEYS[:4])
    bond.turn()
    bond.lost = {Events}
    put(bond.core, KEYS)
    bond.turn()
    bond.lost = set()
    bond.member.on_answer(bond.controller.status(Want.REPLAY), bond.now_s)
    bond.turn()
    assert _batches(bond)[-1].first_seq == 5
    assert bond.is_true()


def test_a_snapshot_that_the_controller_wants_is_sent(bond):
    put(bond.core, KEYS)
    bond.settle()
    bond.controller.entries.clear()  # silent drift
    bond.member.on_answer(bond.controller.status(Want.SNAPSHOT), bond.now_s)
    bond.settle()
    assert bond.is_true()


def test_events_that_are_not_kept_any_more_are_made_good_by_a_snapshot(bond):
    bond.core.feed._max_kept = 2
    put(bond.core, KEYS)
    bond.settle()
    assert bond.is_true()
    assert not _batches(bond)
    assert any(isinstance(message, SnapshotPage) for message in bond.controller.received)


def test_large_changes_go_in_batches_of_bounded_size():
    bond = Bond(MAX_BATCH_EVENTS + 10)
    bond.turn()
    put(bond.core, prompt(MAX_BATCH_EVENTS + 5))
    bond.turn()
    assert [len(batch.kinds) for batch in _batches(bond)] == [MAX_BATCH_EVENTS, 5]


def test_a_controller_that_restarted_gets_everything_again(bond):
    put(bond.core, KEYS)
    bond.settle()
    bond.controller.restart()
    bond.now_s += 1.0
    bond.settle()
    assert bond.member.epoch == 2
    assert bond.is_true()


def test_an_acknowledgement_of_another_epoch_counts_for_nothing(bond):
    put(bond.core, KEYS)
    bond.member.on_answer(FeedStatus(epoch=9, acked_seq=8), bond.now_s)
    assert bond.member.acked_seq == 0
    assert bond.core.feed.first_kept_seq == 1
    bond.settle()
    assert bond.is_true()


def test_a_controller_that_forgot_us_is_registered_with_again(bond):
    put(bond.core, KEYS)
    bond.member.on_answer(Refusal(code=RefusalCode.UNKNOWN_INSTANCE), bond.now_s)
    assert bond.turn() == [Register]
    bond.settle()
    assert bond.is_true()


def test_a_second_answer_to_a_registration_changes_nothing(bond):
    put(bond.core, KEYS)
    bond.settle()
    bond.member.on_answer(Registered(epoch=1, heartbeat_ms=10, expiry_ms=10), bond.now_s)
    assert bond.member.acked_seq == 8
    assert bond.member.is_advertised()
