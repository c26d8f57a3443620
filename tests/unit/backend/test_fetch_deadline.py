"""Time in a fetch: budgets, leases that end, reads that stall, and what is kept in quarantine."""

import pytest

from p2p.agent.slots import SlotState
from p2p.backend.actions import Read, ShortReason
from p2p.backend.fetch_context import FetchLimits
from p2p.backend.leases import LeaseLimits
from p2p.wire.messages import LeaseRelease, LeaseRenew
from tests.unit.backend.builders import instance_core, prompt
from tests.unit.backend.shell import Shell

KEYS = prompt(8)
LIMITS = FetchLimits(num_windows=4, reads_per_holder=2)  # windows of two chunks
PATIENT = FetchLimits(num_windows=4, reads_per_holder=2, stall_s=100.0)


def _shell(*names, limits=LIMITS, lease_s=100.0, num_slots=16):
    shell = Shell(
        [instance_core(name, limits=LeaseLimits(ttl_s=lease_s)) for name in names],
        own=instance_core("r", num_slots),
        limits=limits,
        holds_reads=True,
    )
    for core in shell.holders:
        shell.put(core, KEYS)
    return shell


def _finish_all(shell):
    while shell.reads:
        shell.finish(shell.reads[0])


def test_at_the_deadline_the_verified_prefix_is_delivered():
    shell = _shell("a", limits=PATIENT)
    fetch = shell.fetch(KEYS)
    shell.finish(shell.reads[0])
    shell.advance(0.32)
    assert fetch.outcome is None
    shell.now_s = fetch.deadline_s
    shell.advance(0.0)
    assert shell.check_delivered(fetch, KEYS) == 2
    outcome = shell.outcome(fetch)
    assert (outcome.reason, outcome.detail) == (ShortReason.BUDGET_SPENT, "budget of 1 s")
    assert outcome.phases_s["done"] == pytest.approx(1.0)


def test_a_read_that_arrived_out_of_order_is_no_part_of_the_prefix_but_stays_here():
    shell = _shell("a")
    fetch = shell.fetch(KEYS)
    shell.finish(shell.reads[1])
    shell.advance(1.0)
    assert shell.check_delivered(fetch, KEYS) == 0
    assert {entry.key for entry in shell.own.index} == set(KEYS[2:4])
    while shell.cancelled:
        shell.quiesce(shell.cancelled[0])
    shell.check_nothing_left(fetch)


def test_given_up_reads_keep_their_slots_and_their_lease_until_they_have_quiesced():
    shell = _shell("a")
    fetch = shell.fetch(KEYS)
    shell.advance(1.0)
    first, second = shell.cancelled
    assert shell.own.slots.count(SlotState.QUARANTINED) == 4
    assert not shell.sent(LeaseRelease)
    shell.quiesce(first)
    assert shell.own.slots.count(SlotState.QUARANTINED) == 2
    assert not shell.sent(LeaseRelease)
    assert shell.reader.next_deadline_s() is None
    shell.quiesce(second)
    assert len(shell.sent(LeaseRelease)) == 1
    shell.check_nothing_left(fetch)


def test_slots_in_quarantine_are_given_to_nobody():
    shell = _shell("a", num_slots=8)
    first = shell.fetch(KEYS)
    shell.advance(1.0)
    quarantined = {slot for read in shell.cancelled for slot in read.local}
    shell.now_s += 10.0
    second = shell.fetch(KEYS)
    _finish_all(shell)
    used = {slot for action in shell.log[-40:] if isinstance(action, Read) for slot in action.local}
    assert shell.check_delivered(second, KEYS) == 4
    assert shell.outcome(second).reason is ShortReason.POOL_FULL
    assert used >= set(range(8)) - quarantined
    assert not {entry.slot for entry in shell.own.index} & quarantined
    while shell.cancelled:
        shell.quiesce(shell.cancelled[0])
    shell.check_nothing_left(first, second)


def test_a_given_up_read_that_arrives_after_all_is_not_used():
    shell = _shell("a")
    fetch = shell.fetch(KEYS)
    shell.advance(1.0)
    for read in shell.cancelled:
        shell.reader.on_read_done(read.read_id, shell.now_s)
    shell.carry_out()
    assert len(shell.own.index) == 0
    shell.check_nothing_left(fetch)


def test_what_is_verified_after_the_deadline_is_kept_for_the_next_fetch():
    shell = _shell("a")
    shell.holds_verify = True
    fetch = shell.fetch(KEYS[:2])
    _finish_all(shell)
    shell.advance(1.0)
    assert shell.check_delivered(fetch, KEYS) == 0
    assert not shell.sent(LeaseRelease)
    while shell.to_verify:
        shell.verify(shell.to_verify[0])
    assert len(shell.own.index) == 2
    shell.check_nothing_left(fetch)


def test_a_read_that_takes_a_third_of_the_budget_is_given_up_for_the_next_holder():
    shell = _shell("a", "b")
    fetch = shell.fetch(KEYS)
    slow = shell.reads[0].instance
    shell.advance(0.34)
    assert {read.instance for read in shell.cancelled} == {slow}
    assert {read.instance for read in shell.reads} == {"a", "b"} - {slow}
    _finish_all(shell)
    assert shell.check_delivered(fetch, KEYS) == 8
    assert len(shell.cores[slow].leases) == 1
    while shell.cancelled:
        shell.quiesce(shell.cancelled[0])
    shell.check_nothing_left(fetch)


def test_a_stalled_read_of_the_only_holder_is_named():
    shell = _shell("a", limits=FetchLimits(stall_s=0.1))
    fetch = shell.fetch(KEYS)
    shell.advance(0.1)
    outcome = shell.outcome(fetch)
    assert (outcome.reason, outcome.detail) == (
        ShortReason.READ_STALLED, "a: a read took longer than 0.1 s",
    )  # fmt: skip


def test_a_given_up_read_is_no_sign_of_life_of_its_holder():
    shell = _shell("a", limits=FetchLimits(num_windows=4, reads_per_holder=2, stall_s=0.1))
    fetch = shell.fetch(KEYS)
    shell.now_s += 0.05
    shell.finish(shell.reads[0])
    shell.now_s -= 0.03  # lanes tell their ends in any order
    shell.finish(shell.reads[0])
    shell.advance(0.1)
    assert len(shell.cancelled) == 1
    shell.advance(0.03)
    assert len(shell.cancelled) == 2
    assert shell.check_delivered(fetch, KEYS) == 4


def test_a_read_that_ends_after_its_lease_is_not_used_and_read_elsewhere():
    shell = _shell("a", "b", limits=PATIENT, lease_s=0.1)
    fetch = shell.fetch(KEYS[:1])
    late = shell.reads[0]
    shell.now_s += 0.094  # 2 % and 5 ms before the holder's deadline the reader stops trusting
    shell.finish(late)
    assert {read.instance for read in shell.reads} == {"a", "b"} - {late.instance}
    _finish_all(shell)
    assert shell.check_delivered(fetch, KEYS) == 1
    assert [source.instance for source in shell.outcome(fetch).sources] != [late.instance]
    shell.advance(1.0)
    shell.check_nothing_left(fetch)


def test_a_read_that_ends_after_the_only_lease_is_named():
    shell = _shell("a", limits=PATIENT, lease_s=0.1)
    fetch = shell.fetch(KEYS[:2])
    while shell.reads:
        shell.now_s += 0.2
        shell.finish(shell.reads[0])
    assert shell.outcome(fetch).reason is ShortReason.LEASE_LOST
    assert len(shell.own.index) == 0


def test_a_lease_is_renewed_at_half_of_its_time_while_reads_are_under_way():
    shell = _shell("a", limits=PATIENT, lease_s=0.2)
    fetch = shell.fetch(KEYS[:2], budget_s=10.0)
    for _ in range(5):
        due_s = shell.reader.next_deadline_s()
        assert due_s is not None
        assert due_s - shell.now_s == pytest.approx((0.2 * 0.98 - 0.005) / 2)
        shell.advance(due_s - shell.now_s)
    assert len(shell.sent(LeaseRenew)) == 5
    shell.holders[0].tick(shell.now_s)
    assert len(shell.holders[0].leases) == 1
    _finish_all(shell)
    assert shell.check_delivered(fetch, KEYS) == 2
    shell.check_nothing_left(fetch)


def test_an_unanswered_renewal_does_not_extend_what_the_reader_trusts():
    shell = _shell("a", limits=PATIENT, lease_s=0.2)
    fetch = shell.fetch(KEYS[:2], budget_s=10.0)
    shell.silent = {"a"}
    shell.advance(0.1)
    assert len(shell.sent(LeaseRenew)) == 1
    shell.now_s += 0.1
    shell.finish(shell.reads[0])
    assert len(shell.own.index) == 0
    assert fetch.outcome is None or not fetch.outcome.entries


def test_a_renewal_that_comes_too_late_does_not_bring_back_a_lease():
    shell = _shell("a", limits=PATIENT, lease_s=0.2)
    shell.fetch(KEYS[:2], budget_s=10.0)
    shell.silent = {"a"}
    shell.advance(0.1)
    shell.now_s += 0.2
    shell.answer(shell.unanswered[0])  # refused: the holder has ended the lease
    shell.finish(shell.reads[0])
    assert len(shell.own.index) == 0


def test_closing_delivers_what_is_verified_and_waits_for_reads_to_quiesce():
    shell = _shell("a")
    fetch = shell.fetch(KEYS)
    shell.finish(shell.reads[0])
    shell.reader.close(shell.now_s)
    shell.carry_out()
    assert shell.check_delivered(fetch, KEYS) == 2
    assert shell.outcome(fetch).reason is ShortReason.CLOSED
    assert shell.reader.fetches == [fetch]
    while shell.cancelled:
        shell.quiesce(shell.cancelled[0])
    shell.check_nothing_left(fetch)
