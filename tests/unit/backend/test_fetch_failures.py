"""A fetch whose holders fail: it goes on at the next one, or says by name what was missing."""

import pytest

from p2p.backend.actions import DropPeer, ShortReason
from p2p.backend.fetch_context import FetchLimits
from p2p.backend.leases import LeaseLimits
from p2p.backend.plan import PlanLimits
from p2p.wire.messages import LeaseGranted, LeaseRequest, Refusal, RefusalCode, ReportMismatch
from tests.unit.backend.builders import CHUNK_BYTES, instance_core, prompt
from tests.unit.backend.shell import Shell

KEYS = prompt(8)
LIMITS = FetchLimits(num_windows=4)
STRIPED = FetchLimits(plan=PlanLimits(stripe_bytes=CHUNK_BYTES, max_stripes=4), num_windows=8)


def _shell(*names, limits=LIMITS, **parts):
    shell = Shell([instance_core(name) for name in names], limits=limits, **parts)
    for core in shell.holders:
        shell.put(core, KEYS)
    return shell


def _first_asked(shell):
    """The holder that is asked first, and the other one."""
    probe = _shell(*(core.identity.instance for core in shell.holders))
    probe.fetch(KEYS)
    (first,) = {name for name in probe.cores if probe.sent(LeaseRequest, name)}
    (other,) = {core.identity.instance for core in shell.holders} - {first}
    return first, other


def _pair(**parts):
    shell = _shell("a", "b", **parts)
    return (shell, *_first_asked(shell))


def _served(shell, fetch):
    return {source.instance: source.num_chunks for source in shell.outcome(fetch).sources}


def test_what_a_holder_evicted_since_comes_from_the_next_one():
    shell, first, other = _pair()
    full = shell.locate
    shell.locate = lambda question: (full(question), shell.drop(shell.cores[first], KEYS[3:]))[0]
    fetch = shell.fetch(KEYS)
    assert shell.check_delivered(fetch, KEYS) == 8
    assert _served(shell, fetch) == {first: 3, other: 5}
    shell.check_nothing_left(fetch)


def test_a_busy_holder_is_left_for_the_next_one():
    shell, first, other = _pair()
    limits = LeaseLimits(num_per_reader=0)
    shell.cores[first].leases.limits = limits
    assert _served(shell, shell.fetch(KEYS)) == {other: 8}


def test_a_holder_that_does_not_answer_is_left_within_the_ask_timeout():
    shell, first, other = _pair(limits=FetchLimits(ask_timeout_s=0.1))
    shell.silent = {first}
    fetch = shell.fetch(KEYS)
    shell.advance(0.099)
    assert fetch.outcome is None
    shell.advance(0.001)
    assert _served(shell, fetch) == {other: 8}
    shell.check_nothing_left(fetch)


def test_a_holder_that_was_silent_is_not_asked_again_at_once():
    shell, first, _other = _pair()
    shell.silent = {first}
    shell.fetch(KEYS)
    shell.advance(0.25)
    shell.own.clear()
    num_asked = len(shell.unanswered)
    fetch = shell.fetch(KEYS[:2], budget_s=0.2)
    assert len(shell.unanswered) == num_asked
    assert fetch.outcome is not None


def test_a_lease_that_is_granted_too_late_is_given_back():
    shell = _shell("a", silent={"a"})
    fetch = shell.fetch(KEYS)
    shell.advance(0.25)
    assert shell.outcome(fetch).reason is ShortReason.LINK_SLOW
    while shell.unanswered:
        shell.answer(shell.unanswered[0])
    assert shell.holders[0].counters["leases_granted"] == 1
    shell.check_nothing_left(fetch)


def test_a_holder_without_a_link_is_left_for_the_next_one():
    shell, first, other = _pair()
    shell.broken_links = {first}
    fetch = shell.fetch(KEYS)
    assert _served(shell, fetch) == {other: 8}
    shell.check_nothing_left(fetch)


def test_no_link_to_the_only_holder_is_named():
    shell = _shell("a", broken_links={"a"})
    outcome = shell.outcome(shell.fetch(KEYS))
    assert (outcome.reason, outcome.detail) == (ShortReason.LINK_FAILED, "a: no route")


def test_a_holder_that_is_closing_is_left_and_dropped():
    shell, first, other = _pair()
    shell.cores[first].is_closing = True
    fetch = shell.fetch(KEYS)
    assert _served(shell, fetch) == {other: 8}
    assert DropPeer(first) in shell.log
    shell.check_nothing_left(fetch)


def test_a_failed_read_goes_on_at_the_next_holder_in_the_same_fetch():
    shell, _first, other = _pair(holds_reads=True)
    fetch = shell.fetch(KEYS)
    shell.finish(shell.reads[0])
    shell.fail(shell.reads[0])
    while shell.reads:
        shell.finish(shell.reads[0])
    assert shell.check_delivered(fetch, KEYS) == 8
    assert _served(shell, fetch)[other] >= 2
    shell.check_nothing_left(fetch)


def test_a_failed_read_of_the_only_holder_ends_the_prefix_there():
    shell = _shell("a", holds_reads=True)
    fetch = shell.fetch(KEYS)
    shell.finish(shell.reads[0])
    shell.fail(shell.reads[0])
    while shell.reads:
        shell.finish(shell.reads[0])
    assert shell.check_delivered(fetch, KEYS) == 2
    outcome = shell.outcome(fetch)
    assert (outcome.reason, outcome.detail) == (ShortReason.READ_FAILED, "a: reset by peer")
    shell.check_nothing_left(fetch)


def test_slots_of_a_read_that_broke_are_not_used_before_it_has_quiesced():
    shell, first, _other = _pair(holds_reads=True)
    fetch = shell.fetch(KEYS)
    broken = shell.reads[0]
    shell.break_off(broken)
    while shell.reads:
        assert not set(shell.reads[0].local) & set(broken.local)
        shell.finish(shell.reads[0])
    assert shell.check_delivered(fetch, KEYS) == 8
    assert len(shell.cores[first].leases) == 1, "the lease lasts until the read has quiesced"
    shell.quiesce(broken)
    shell.check_nothing_left(fetch)


def test_other_bytes_than_stored_are_reported_and_read_elsewhere():
    shell, first, other = _pair()
    shell.corrupt = {first}
    fetch = shell.fetch(KEYS)
    assert shell.check_delivered(fetch, KEYS) == 8
    assert _served(shell, fetch) == {other: 8}
    assert {report.key for report in shell.sent(ReportMismatch, first)} == set(KEYS)
    assert shell.own.counters["digest_mismatches"] == 8
    suspects = shell.cores[first].take_suspects()
    assert all(shell.cores[first].pin_suspect(suspect) for suspect in suspects)


def test_other_bytes_from_the_only_holder_are_a_miss():
    shell = _shell("a", corrupt={"a"})
    fetch = shell.fetch(KEYS)
    assert shell.check_delivered(fetch, KEYS) == 0
    assert shell.outcome(fetch).reason is ShortReason.DIGEST_MISMATCH
    shell.check_nothing_left(fetch)


def test_a_chunk_whose_bytes_differ_does_not_spoil_the_others_of_its_read():
    shell = _shell("a", limits=FetchLimits(num_windows=1))
    bad = shell.holders[0].index.prefix(KEYS, "")[5]
    shell.memory["a", bad.slot] ^= 1
    fetch = shell.fetch(KEYS)
    assert shell.check_delivered(fetch, KEYS) == 5
    assert len(shell.own.index) == 7
    shell.check_nothing_left(fetch)


@pytest.mark.parametrize("change", [{"slots": (0,)}, {"roots": ()}, {"generations": ()}])
def test_a_malformed_grant_is_as_good_as_a_refusal(change):
    shell, first, other = _pair()
    shell.silent = {first}
    fetch = shell.fetch(KEYS)
    hello, lease = shell.unanswered
    shell.answer(hello)
    fields = {"slots": (1, 2), "generations": (1, 1), "roots": ((1, 2),)} | change
    shell.reader.on_peer(lease.tag, LeaseGranted(token=9, ttl_ms=100, **fields), shell.now_s)
    shell.carry_out()
    assert _served(shell, fetch) == {other: 8}


def test_a_full_pool_ends_the_prefix():
    shell = _shell("a", own=instance_core("r", 5))
    fetch = shell.fetch(KEYS)
    assert shell.check_delivered(fetch, KEYS) == 5
    assert shell.outcome(fetch).reason is ShortReason.POOL_FULL
    shell.check_nothing_left(fetch)


def test_a_full_pool_makes_room_by_evicting_what_nobody_needs():
    shell = _shell("a", own=instance_core("r", 8))
    shell.put(shell.own, prompt(8, salt="old"))
    assert shell.check_delivered(shell.fetch(KEYS), KEYS) == 8
    assert shell.own.counters["evicted_chunks"] == 8


def test_two_holders_that_fail_in_turn_leave_what_arrived():
    shell = _shell("a", "b", limits=STRIPED, holds_reads=True)
    fetch = shell.fetch(KEYS)
    shell.finish(shell.reads[0])
    while shell.reads:
        shell.fail(shell.reads[0])
    assert shell.check_delivered(fetch, KEYS) == 1
    assert shell.outcome(fetch).reason is ShortReason.READ_FAILED
    shell.check_nothing_left(fetch)


def test_a_refused_lease_names_the_code():
    shell = _shell("a", silent={"a"})
    fetch = shell.fetch(KEYS)
    lease = shell.unanswered[1]
    refusal = Refusal(code=RefusalCode.NAMESPACE, field="namespace")
    shell.reader.on_peer(lease.tag, refusal, shell.now_s)
    outcome = shell.outcome(fetch)
    assert (outcome.reason, outcome.detail) == (
        ShortReason.PEER_REFUSED, "a refused: namespace namespace",
    )  # fmt: skip


@pytest.mark.parametrize(("one_in", "num_mismatches"), [(1, 8), (0, 0), (2, 4)])
def test_as_many_reads_are_verified_as_the_setting_says(one_in, num_mismatches):
    limits = FetchLimits(
        num_windows=8, reads_per_holder=8, reads_if_unknown=8, verify_one_in=one_in
    )
    shell = Shell([instance_core("a")], limits=limits)
    shell.put(shell.holders[0], KEYS)
    shell.corrupt = {"a"}
    shell.fetch(KEYS)
    while shell.reads:
        shell.finish(shell.reads[0])
    assert shell.own.counters["digest_mismatches"] == num_mismatches
