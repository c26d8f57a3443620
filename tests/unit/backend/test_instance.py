"""What an instance keeps, lends, evicts and tells, by the messages that it gets."""

import msgspec
import pytest

from p2p.agent.slots import SlotState
from p2p.backend.leases import LeaseLimits
from p2p.layout import Layout
from p2p.view_hash import view_hash_of
from p2p.wire.messages import (
    EventKind,
    LeaseBusy,
    LeaseGranted,
    LeaseRelease,
    Refusal,
    RefusalCode,
    Welcome,
)
from tests.unit.backend.builders import (
    CHUNK_BYTES,
    OFFERS,
    ask,
    hello,
    instance_core,
    lease_request,
    prompt,
    put,
)

HOST = EventKind.ADMIT_HOST.value
KEYS = prompt(4)


def _holder(num_slots=8, **limits):
    """An instance that holds four chunks and knows one reader."""
    core = instance_core("a", num_slots, limits=LeaseLimits(**limits))
    put(core, KEYS)
    ask(core, hello())
    return core


def _lease(core, keys=KEYS, now_s=0.0, **fields):
    answer = ask(core, lease_request(keys, **fields), now_s)
    assert isinstance(answer, LeaseGranted)
    return answer


def _refused(core, message, now_s=0.0):
    answer = ask(core, message, now_s)
    assert isinstance(answer, Refusal)
    return answer.code, answer.field


def _release(token, incarnation=1):
    return LeaseRelease(instance="r", incarnation=incarnation, token=token)


# ---------------------------------------------------------------------- put and evict


def test_a_put_takes_slots_for_what_is_not_here_and_names_parents():
    core = instance_core()
    put(core, KEYS[:2])
    placements = core.begin_put(KEYS, "")
    assert [(p.position, p.key, p.parent) for p in placements] == [
        (2, KEYS[2], KEYS[1]), (3, KEYS[3], KEYS[2]),
    ]  # fmt: skip
    assert core.slots.count(SlotState.FILLING) == 2


def test_a_chunk_is_told_once_it_is_committed():
    core = instance_core()
    placements = core.begin_put(KEYS, "t")
    assert (core.feed.last_seq, len(core.index)) == (0, 0)
    for placement in placements:
        core.commit(placement, (7,), "t")
    assert core.feed.view_hash == sum(view_hash_of(key, "t", HOST) for key in KEYS) % 2**64
    core.check_integrity()


def test_the_same_chunk_twice_keeps_the_first_and_frees_the_second_slot():
    core = instance_core(num_slots=4)
    first, second = core.begin_put([KEYS[0]], ""), core.begin_put([KEYS[0]], "")
    kept = core.commit(first[0], (7,), "")
    assert core.commit(second[0], (8,), "") is kept
    assert (kept.roots, core.slots.num_free, core.feed.last_seq) == ((7,), 3, 1)


def test_a_full_pool_evicts_old_leaves_and_says_so():
    core = _holder(num_slots=4)
    new = prompt(2, salt="new")
    assert len(put(core, new)) == 2
    assert {entry.key for entry in core.index} == {*KEYS[:2], *new}
    assert core.counters["evicted_chunks"] == 2
    assert core.feed.view_hash == sum(view_hash_of(e.key, "", HOST) for e in core.index) % 2**64
    core.check_integrity()


def test_a_longer_prompt_does_not_evict_its_own_beginning():
    core = instance_core("a", 4)
    put(core, KEYS)
    assert put(core, prompt(6)) == []
    assert len(core.index.prefix(KEYS, "")) == 4
    assert core.counters["put_chunks_refused_pool_full"] == 2


def test_a_pool_full_of_lent_slots_refuses():
    core = _holder(num_slots=4)
    _lease(core)
    assert put(core, prompt(2, salt="new")) == []
    assert core.counters["put_chunks_refused_pool_full"] == 2
    assert len(core.index) == 4


def test_a_put_longer_than_the_pool_keeps_its_beginning():
    core = instance_core("a", 3)
    assert [entry.key for entry in put(core, KEYS)] == KEYS[:3]


def test_clear_drops_what_is_not_lent():
    core = _holder()
    _lease(core, KEYS[:1])
    assert core.clear() == 3
    assert [entry.key for entry in core.index] == KEYS[:1]
    core.check_integrity()


def test_a_chunk_of_one_tenant_becomes_everybody_s_when_it_is_stored_for_all():
    core = instance_core()
    put(core, KEYS[:1], "t")
    assert core.index.prefix(KEYS, "u") == []
    put(core, KEYS[:1], "")
    assert len(core.index.prefix(KEYS, "u")) == 1
    assert core.feed.view_hash == view_hash_of(KEYS[0], "", HOST)


def test_a_chunk_of_two_tenants_is_lent_to_both_and_goes_from_both():
    core = instance_core()
    put(core, KEYS, "t")
    put(core, KEYS, "u")
    ask(core, hello())
    assert len(core.index) == 4
    for tenant, count in (("t", 4), ("u", 4), ("v", 0)):
        granted = _lease(core, tenant=tenant)
        assert len(granted.slots) == count
        ask(core, LeaseRelease(instance="r", incarnation=1, token=granted.token))
    told = core.feed.last_seq
    core.drop(core.index.prefix(KEYS, "t")[3])
    assert core.feed.last_seq == told + 2
    core.check_integrity()


def test_a_chunk_of_everybody_stays_so_when_a_tenant_stores_it():
    core = instance_core()
    put(core, KEYS[:1])
    put(core, KEYS[:1], "t")
    assert len(core.index.prefix(KEYS, "u")) == 1


# ---------------------------------------------------------------------- hello and lease


def test_a_reader_that_fits_is_told_how_to_connect():
    answer = ask(instance_core("a", incarnation=5), hello())
    assert answer == Welcome(instance="a", incarnation=5, ranks=OFFERS)


def test_a_reader_that_does_not_fit_is_counted_by_field_and_gets_no_lease():
    core = instance_core()
    put(core, KEYS)
    other = Layout(**{**msgspec.structs.asdict(core.identity.layout), "head_dim": 9})
    bad = msgspec.structs.replace(hello(), layout=other)
    assert _refused(core, bad) == (RefusalCode.LAYOUT, "head_dim")
    assert core.counters["hello_refused_head_dim"] == 1
    assert _refused(core, lease_request(KEYS)) == (RefusalCode.UNKNOWN_INSTANCE, "instance")


def test_a_lease_names_slots_generations_and_digests_of_what_is_here():
    core = _holder()
    core.drop(core.index.prefix(KEYS, "")[2])
    grant = _lease(core)
    entries = [entry for entry in core.index.readable(KEYS, "") if entry is not None]
    assert grant.slots == tuple(entry.slot for entry in entries)
    assert (grant.missing, grant.generations, grant.roots) == ((2,), (1, 1, 1), ((7, 7, 7),))
    assert all(entry.num_pins == 1 for entry in entries)
    assert core.leases.num_bytes == 3 * CHUNK_BYTES


def test_a_lease_of_nothing_leaves_nothing_behind():
    core = _holder()
    assert _lease(core, prompt(2, salt="absent")).slots == ()
    assert len(core.leases) == 0


def test_a_lease_is_for_the_tenant_that_asks():
    core = instance_core()
    put(core, KEYS, "t")
    ask(core, hello())
    assert len(_lease(core, tenant="t").slots) == 4
    assert _lease(core, tenant="u").slots == ()
    assert _lease(core).slots == ()


def test_a_lease_lasts_no_longer_than_the_limit():
    assert _lease(_holder(ttl_s=0.5), ttl_ms=5000).ttl_ms == 500
    assert _lease(_holder(ttl_s=0.5), ttl_ms=200).ttl_ms == 200


@pytest.mark.parametrize("limits", [{"num_per_reader": 1}, {"bytes_per_reader": 4 * CHUNK_BYTES}])
def test_a_reader_at_its_limit_is_told_to_come_again(limits):
    core = _holder(**limits)
    grant = _lease(core)
    assert isinstance(ask(core, lease_request(KEYS)), LeaseBusy)
    assert core.leases.num_bytes == 4 * CHUNK_BYTES
    ask(core, _release(grant.token))
    _lease(core)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"holder_incarnation": 2}, (RefusalCode.STALE_INCARNATION, "holder_incarnation")),
        ({"instance": "stranger"}, (RefusalCode.UNKNOWN_INSTANCE, "instance")),
        ({"incarnation": 2}, (RefusalCode.UNKNOWN_INSTANCE, "instance")),
    ],
)
def test_a_lease_for_the_wrong_start_or_by_a_stranger_is_refused(fields, expected):
    assert _refused(_holder(), lease_request(KEYS, **fields)) == expected


def test_a_lease_in_another_namespace_or_with_torn_keys_is_refused():
    core, request = _holder(), lease_request(KEYS)
    other = msgspec.structs.replace(request, namespace="other")
    assert _refused(core, other) == (RefusalCode.NAMESPACE, "namespace")
    torn = msgspec.structs.replace(request, keys=request.keys[:-1])
    assert _refused(core, torn) == (RefusalCode.MALFORMED, "keys")


def test_an_instance_that_is_closing_lends_no_more():
    core = _holder()
    core.is_closing = True
    assert _refused(core, hello())[0] is RefusalCode.CLOSING
    assert _refused(core, lease_request(KEYS))[0] is RefusalCode.CLOSING
