"""The end of leases at their holder, and chunks that a reader found to be damaged."""

from p2p.backend.leases import LeaseLimits
from p2p.wire.messages import (
    Done,
    LeaseGranted,
    LeaseRelease,
    LeaseRenew,
    LeaseRenewed,
    Refusal,
    RefusalCode,
    ReportMismatch,
)
from tests.unit.backend.builders import (
    NAMESPACE,
    ask,
    hello,
    instance_core,
    lease_request,
    prompt,
    put,
)

KEYS = prompt(4)


def _holder(**limits):
    core = instance_core("a", 8, limits=LeaseLimits(**limits))
    put(core, KEYS)
    ask(core, hello())
    return core


def _lease(core, now_s=0.0, **fields):
    answer = ask(core, lease_request(KEYS, **fields), now_s)
    assert isinstance(answer, LeaseGranted)
    return answer


def _pins(core):
    return [entry.num_pins for entry in core.index]


def _report(core, *, incarnation=1, generation=1):
    entry = core.index.prefix(KEYS, "")[0]
    return ReportMismatch(
        instance="r",
        incarnation=incarnation,
        namespace=NAMESPACE.id,
        key=entry.key,
        slot=entry.slot,
        generation=generation,
    )


def test_a_released_lease_unpins_once():
    core = _holder()
    first, second = _lease(core), _lease(core)
    release = LeaseRelease(instance="r", incarnation=1, token=first.token)
    assert [ask(core, release), ask(core, release)] == [Done(), Done()]
    assert _pins(core) == [1] * 4
    assert second.token > first.token


def test_nobody_else_can_release_a_lease():
    core = _holder()
    token = _lease(core).token
    ask(core, LeaseRelease(instance="other", incarnation=1, token=token))
    ask(core, LeaseRelease(instance="r", incarnation=2, token=token))
    assert _pins(core) == [1] * 4


def test_a_lease_ends_at_its_deadline_without_a_message():
    core = _holder()
    _lease(core, ttl_ms=500)
    core.tick(0.499)
    assert _pins(core) == [1] * 4
    core.tick(0.5)
    assert _pins(core) == [0] * 4
    assert core.counters["leases_expired"] == 1


def test_a_renewed_lease_lasts_from_the_renewal_on():
    core = _holder()
    token = _lease(core, ttl_ms=500).token
    renew = LeaseRenew(instance="r", incarnation=1, token=token, ttl_ms=500)
    assert ask(core, renew, now_s=0.4) == LeaseRenewed(token=token, ttl_ms=500)
    core.tick(0.899)
    assert _pins(core) == [1] * 4
    answer = ask(core, renew, now_s=0.9)
    assert isinstance(answer, Refusal)
    assert (answer.code, answer.theirs) == (RefusalCode.LEASE_LOST, str(token))


def test_a_reader_that_starts_anew_loses_its_leases_and_its_old_start_is_refused():
    core = _holder()
    _lease(core)
    ask(core, hello(incarnation=2))
    assert _pins(core) == [0] * 4
    assert core.counters["leases_fenced"] == 1
    stale = ask(core, hello(incarnation=1))
    assert isinstance(stale, Refusal)
    assert (stale.code, stale.ours) == (RefusalCode.STALE_INCARNATION, "2")


def test_a_second_hello_of_the_same_start_keeps_its_leases():
    core = _holder()
    _lease(core)
    ask(core, hello())
    assert _pins(core) == [1] * 4


def test_a_report_of_a_reader_becomes_a_suspect_and_one_of_a_stranger_does_not():
    core = _holder()
    ask(core, _report(core))
    ask(core, _report(core, incarnation=9))
    assert core.counters["mismatches_reported"] == 2
    assert len(core.take_suspects()) == 1
    assert core.take_suspects() == []


def test_a_suspect_that_is_not_there_any_more_is_not_examined():
    core = _holder()
    ask(core, _report(core, generation=2))
    ask(core, _report(core))
    other_generation, gone = core.take_suspects()
    assert core.pin_suspect(other_generation) is None
    core.clear()
    assert core.pin_suspect(gone) is None


def test_a_sound_suspect_stays():
    core = _holder()
    ask(core, _report(core))
    entry = core.pin_suspect(core.take_suspects()[0])
    assert entry is not None
    assert not core.judge_suspect(entry, (7,))
    assert len(core.index.prefix(KEYS, "")) == 4


def test_a_damaged_chunk_goes_at_once_and_says_so():
    core = _holder()
    ask(core, _report(core))
    entry = core.pin_suspect(core.take_suspects()[0])
    assert entry is not None
    assert core.judge_suspect(entry, (8,))
    assert (core.index.get(KEYS[0]), len(core.index)) == (None, 3)
    assert core.feed.last_seq == 5
    assert core.counters["damaged_chunks"] == 1
    core.check_integrity()


def test_a_damaged_chunk_that_is_lent_is_lent_no_more_and_goes_with_its_last_lease():
    core = _holder()
    token = _lease(core).token
    ask(core, _report(core))
    entry = core.pin_suspect(core.take_suspects()[0])
    assert entry is not None
    core.judge_suspect(entry, (8,))
    assert _lease(core).missing == (0,)
    num_free = core.slots.num_free
    ask(core, LeaseRelease(instance="r", incarnation=1, token=token))
    assert core.slots.num_free == num_free + 1
    assert core.index.get(KEYS[0]) is None
    core.check_integrity()
