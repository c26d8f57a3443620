"""The controller's orders at an instance: what is done, what is left and why, and when."""

import msgspec
import pytest

from p2p.keys import chunk_keys, join_keys
from p2p.wire.messages import (
    DropAll,
    DropKeys,
    EvictKeys,
    GiveAll,
    LeaseRequest,
    LeftReason,
    PeerList,
    PinKeys,
    TakeKeys,
    UnpinKeys,
)
from tests.unit.backend.builders import (
    NAMESPACE,
    ask,
    hello,
    holder,
    instance_core,
    prompt,
    put,
)
from tests.unit.backend.shell import Shell

KEYS = prompt(6)


def _order(kind, keys=KEYS, **fields):
    values = {"id": 5, "namespace": NAMESPACE.id, "ttl_ms": 1000, **fields}
    if kind not in {DropAll, GiveAll}:
        values["keys"], values["key_bytes"] = join_keys(keys)
    return kind(**values)


def _core(num_slots=16, keys=KEYS):
    core = instance_core("a", num_slots)
    put(core, keys)
    return core


def _carry_out(core, order, now_s=0.0):
    results = core.errands.carry_out([order], now_s)
    return results[0] if results else None


def _left(result):
    return {left.reason: left.num_chunks for left in result.left}


def _here(core):
    return {entry.key for entry in core.index}


# ---------------------------------------------------------------------- pins


def test_a_pinned_chunk_is_not_evicted_and_an_unpinned_one_is():
    core = _core(num_slots=12)
    assert _carry_out(core, _order(PinKeys)).num_chunks == 6
    put(core, prompt(12, salt="other"))
    assert _here(core) >= set(KEYS)
    slots = core.acquire_slots(12)
    assert len(slots) == 6, "those of the pinned chunks are not to be had"
    for slot in slots:
        core.slots.release(slot)
    assert _carry_out(core, _order(UnpinKeys, id=6)).num_chunks == 6
    assert core.index.num_kept == 0
    put(core, prompt(12, salt="more"))
    assert not _here(core) & set(KEYS)
    core.check_integrity()


def test_a_pin_ends_at_its_time_and_a_later_one_replaces_it():
    core = _core(num_slots=16)
    _carry_out(core, _order(PinKeys, pin_ms=1000), 0.0)
    _carry_out(core, _order(PinKeys, KEYS[:2], id=6, pin_ms=5000), 0.5)
    _carry_out(core, _order(PinKeys, KEYS[2:3], id=7), 0.5)
    core.errands.carry_out([], 0.9)
    assert core.index.num_kept == 6
    core.errands.carry_out([], 1.0)
    assert {entry.key for entry in core.index if entry.kept_until_s is not None} == set(KEYS[:3])
    core.errands.carry_out([], 1000.0)
    assert core.index.num_kept == 1, "without a time it stays"


def test_no_more_than_a_share_of_the_pool_is_pinned():
    core = _core(num_slots=8)
    result = _carry_out(core, _order(PinKeys))
    assert (result.num_chunks, _left(result)) == (4, {LeftReason.PIN_LIMIT: 2})
    assert result.left[0].detail == "at most 4 chunks"
    again = _carry_out(core, _order(PinKeys, KEYS[:4], id=6, pin_ms=5))
    assert (again.num_chunks, again.left) == (4, ()), "what is pinned does not count twice"


def test_what_is_not_here_or_not_the_tenants_cannot_be_pinned():
    core = instance_core("a")
    put(core, KEYS[:3], "acme")
    result = _carry_out(core, _order(PinKeys, tenant="acme"))
    assert (result.num_chunks, _left(result)) == (3, {LeftReason.NOT_HERE: 3})
    other = _carry_out(core, _order(UnpinKeys, id=6, tenant="other"))
    assert (other.num_chunks, core.index.num_kept) == (0, 3)


# ---------------------------------------------------------------------- dropping


def test_evicting_spares_what_is_pinned_and_clearing_does_not():
    core = _core()
    _carry_out(core, _order(PinKeys, KEYS[:2]))
    result = _carry_out(core, _order(EvictKeys, id=6))
    assert (result.num_chunks, _left(result)) == (4, {LeftReason.PINNED: 2})
    assert _here(core) == set(KEYS[:2])
    assert _carry_out(core, _order(DropAll, id=7)).num_chunks == 2
    assert core.index.num_kept == 0
    core.check_integrity()


def test_evicting_is_exact_and_clearing_takes_what_follows():
    core = _core()
    branch = chunk_keys([*range(8), *[9] * 8], 4)
    put(core, branch)
    assert branch[:2] == KEYS[:2]
    assert _carry_out(core, _order(EvictKeys, KEYS[4:5])).num_chunks == 1
    assert _here(core) == {*KEYS[:4], KEYS[5], *branch}
    assert _carry_out(core, _order(DropKeys, KEYS[3:4], id=6)).num_chunks == 1
    assert KEYS[5] in _here(core), "its parent is gone: nobody knows what it follows"
    assert _carry_out(core, _order(DropKeys, KEYS[1:2], id=7)).num_chunks == 4
    assert _here(core) == {KEYS[0], KEYS[5]}
    core.check_integrity()


@pytest.mark.parametrize("kind", [DropAll, DropKeys, EvictKeys])
def test_what_is_in_use_is_tried_again_until_the_time_is_over(kind):
    core = _core()
    entries = core.index.prefix(KEYS[:2], "")
    for entry in entries:
        core.index.pin(entry)
    order = _order(kind)
    assert _carry_out(core, order, 0.0) is None
    assert _here(core) == set(KEYS[:2])
    assert core.errands.next_deadline_s(0.0) == pytest.approx(0.05)
    core.unpin(entries[0])
    assert _carry_out(core, order, 0.5) is None
    result = _carry_out(core, order, 1.0)
    assert (result.num_chunks, _left(result)) == (5, {LeftReason.IN_USE: 1})
    core.unpin(entries[1])
    assert _here(core) == {KEYS[1]}


def test_what_comes_while_an_order_waits_is_not_meant():
    core = _core()
    entry = core.index.prefix(KEYS[:1], "")[0]
    core.index.pin(entry)
    assert _carry_out(core, _order(DropAll), 0.0) is None
    put(core, prompt(2, salt="new"))
    core.unpin(entry)
    assert _carry_out(core, _order(DropAll), 0.1).num_chunks == 6
    assert _here(core) == set(prompt(2, salt="new"))


def test_an_order_that_is_taken_back_is_forgotten():
    core = _core()
    entry = core.index.prefix(KEYS[:1], "")[0]
    core.index.pin(entry)
    assert _carry_out(core, _order(DropAll), 0.0) is None
    assert core.errands.carry_out([], 0.1) == []
    assert core.errands.next_deadline_s(0.1) == float("inf")


# ---------------------------------------------------------------------- fetching


def _shell(*names, num_slots=16):
    shell = Shell([instance_core(name) for name in names], own=instance_core("r", num_slots))
    for core in shell.holders:
        shell.put(core, KEYS)
    members = tuple(holder(name) for name in ("r", *names))
    shell.own.membership.roster.take(PeerList(epoch=1, version=1, peers=members), shell.now_s)
    return shell


def _take(shell, order):
    """Begins the order, lets the reader work, returns the report."""
    assert _carry_out(shell.own, order, shell.now_s) is None
    shell.advance(0.0)
    assert shell.own.has_bond_news
    return _carry_out(shell.own, order, shell.now_s)


def test_an_ordered_fetch_keeps_the_chunks_unpinned():
    shell = _shell("a")
    result = _take(shell, _order(TakeKeys))
    assert (result.num_chunks, result.left) == (6, ())
    assert _here(shell.own) == set(KEYS)
    shell.check_nothing_left()
    assert not shell.own.has_bond_news


def test_a_named_source_is_read_from_and_nobody_else():
    shell = _shell("a", "b")
    result = _take(shell, _order(TakeKeys, source="b"))
    assert result.num_chunks == 6
    assert {read.instance for read in shell.log if hasattr(read, "remote")} == {"b"}
    shell.check_nothing_left()


def test_a_source_that_lacks_a_chunk_ends_the_fetch_there():
    shell = _shell("a", "b")
    shell.drop(shell.cores["b"], KEYS[4:5])
    result = _take(shell, _order(TakeKeys, source="b"))
    assert (result.num_chunks, _left(result)) == (4, {LeftReason.FETCH_SHORT: 2})
    assert result.left[0].detail == "no_holder: b does not have chunk 4"
    shell.check_nothing_left()


def test_an_unknown_source_is_waited_for_until_the_time_is_over():
    shell = _shell("a")
    order = _order(TakeKeys, source="x")
    assert _carry_out(shell.own, order, 0.0) is None
    assert not shell.own.errands.for_reader
    result = _carry_out(shell.own, order, 1.0)
    assert _left(result) == {LeftReason.UNKNOWN_SOURCE: 6}


def test_a_full_pool_is_named_as_the_reason():
    shell = _shell("a", num_slots=4)
    result = _take(shell, _order(TakeKeys))
    assert (result.num_chunks, _left(result)) == (4, {LeftReason.NO_ROOM: 2})
    shell.check_nothing_left()


def test_what_is_moved_is_held_until_its_sources_time_is_over():
    shell = _shell("a", num_slots=6)
    result = _take(shell, _order(TakeKeys, hold_ms=3000))
    assert result.num_chunks == 6
    assert shell.own.acquire_slots(6) == []
    shell.own.errands.carry_out([], shell.now_s + 2.9)
    assert shell.own.acquire_slots(6) == []
    shell.own.errands.carry_out([], shell.now_s + 3.0)
    assert len(shell.own.acquire_slots(6)) == 6


def test_a_part_of_a_move_is_not_held():
    shell = _shell("a", num_slots=4)
    _take(shell, _order(TakeKeys, hold_ms=3000))
    shell.check_nothing_left()


def test_an_ordered_fetch_runs_once_however_often_it_is_named():
    shell = _shell("a")
    order = _order(TakeKeys)
    shell.holds_reads = True
    assert _carry_out(shell.own, order, shell.now_s) is None
    shell.advance(0.0)
    for _ in range(3):
        assert _carry_out(shell.own, order, shell.now_s) is None
        shell.advance(0.0)
    assert len(shell.reader.fetches) == 1


# ---------------------------------------------------------------------- giving


def test_a_drain_that_gave_everything_leaves():
    shell = _shell("x")
    put(shell.own, KEYS)
    shell.own.membership._feed.acknowledge(6)
    order = _order(GiveAll, ttl_ms=4000)
    assert _carry_out(shell.own, order, shell.now_s) is None
    assert not shell.own.errands.for_reader, "the directory does not know what peers are to take"
    assert _carry_out(shell.own, order, shell.now_s + 2.0) is None
    assert len(shell.own.errands.for_reader) == 1


def test_a_drain_with_nobody_there_leaves_everything():
    core = _core()
    shell = Shell([], own=core)
    order = _order(GiveAll, ttl_ms=0)
    result = _take(shell, order)
    assert (result.num_chunks, _left(result)) == (0, {LeftReason.TIME_OVER: 6})
    assert not core.membership.is_leaving


def test_a_drain_tells_of_pins_since_peers_do_not_get_them():
    core = _core()
    shell = Shell([], own=core)
    assert _carry_out(core, _order(PinKeys, KEYS[:2], id=4), shell.now_s).num_chunks == 2
    result = _take(shell, _order(GiveAll, ttl_ms=0))
    assert _left(result) == {LeftReason.TIME_OVER: 6, LeftReason.PINNED: 2}
    assert {left.detail for left in result.left} == {"pins are not handed over"}


def test_a_drain_of_nothing_is_over_at_once():
    shell = Shell([], own=instance_core("r"))
    result = _take(shell, _order(GiveAll, ttl_ms=0))
    assert (result.num_chunks, result.left) == (0, ())
    assert shell.own.membership.is_leaving


# ---------------------------------------------------------------------- whom it is for


def test_another_namespace_is_another_instances():
    core = _core()
    result = _carry_out(core, msgspec.structs.replace(_order(DropAll), namespace="other"))
    assert _left(result) == {LeftReason.OTHER_NAMESPACE: 0}
    assert len(core.index) == 6


def test_keys_of_odd_length_are_reported():
    core = _core()
    order = msgspec.structs.replace(_order(EvictKeys), keys=b"123456789")
    assert _left(_carry_out(core, order)) == {LeftReason.MALFORMED: 0}
    assert len(core.index) == 6


# ---------------------------------------------------------------------- parting with what was moved


def _moved(num_slots=16):
    """Returns an instance that is to drop what "a" has taken."""
    shell = _shell("a", num_slots=num_slots)
    put(shell.own, KEYS)
    return shell


def _part(shell, order, seconds=0.0):
    assert _carry_out(shell.own, order, shell.now_s) is None
    shell.advance(seconds)
    return _carry_out(shell.own, order, shell.now_s)


def test_what_was_moved_is_dropped_under_a_lease_of_the_target():
    shell = _moved()
    result = _part(shell, _order(EvictKeys, heir="a"))
    assert (result.num_chunks, result.left) == (6, ())
    assert _here(shell.own) == set()
    assert shell.cores["a"].counters["leases_granted"] == 1
    shell.check_nothing_left()


def test_what_the_target_has_lost_is_not_dropped_however_late_the_order_comes():
    shell = _moved()
    shell.drop(shell.cores["a"], KEYS[2:4])
    shell.now_s += 1000.0
    shell.own.membership.roster.take(
        PeerList(epoch=1, version=2, peers=(holder("r"), holder("a"))), shell.now_s
    )
    result = _part(shell, _order(EvictKeys, heir="a"))
    assert (result.num_chunks, _left(result)) == (4, {LeftReason.NOT_AT_TARGET: 2})
    assert _here(shell.own) == set(KEYS[2:4])


def test_a_lease_that_came_too_late_drops_nothing():
    shell = _moved()
    shell.silent.add("a")
    order = _order(EvictKeys, heir="a", ttl_ms=400)
    assert _carry_out(shell.own, order, shell.now_s) is None
    shell.advance(0.0)
    ask(shell.cores["a"], hello("r"), shell.now_s)
    (question,) = [one for one in shell.unanswered if isinstance(one.message, LeaseRequest)]
    answer = ask(shell.cores["a"], question.message, shell.now_s)
    shell.now_s += 3.0  # this process stood still
    shell.reader.on_peer(question.tag, answer, shell.now_s)
    assert _here(shell.own) == set(KEYS)
    result = _carry_out(shell.own, order, shell.now_s)
    assert (result.num_chunks, _left(result)) == (0, {LeftReason.IN_USE: 6})


def test_two_that_move_the_same_chunks_to_each_other_keep_both():
    shell = _moved()
    other = shell.cores["a"]
    mine = other.index.prefix(KEYS, "")
    other.index.lend(tuple(mine))
    own = shell.own.index.prefix(KEYS, "")
    shell.own.index.lend(tuple(own))  # "a" has borrowed from us what it is to drop
    assert _carry_out(shell.own, _order(EvictKeys, heir="a"), shell.now_s) is None
    shell.advance(0.0)
    assert _here(shell.own) == set(KEYS)
    assert _here(other) == set(KEYS)


def test_pinned_chunks_stay_where_they_are_pinned_and_the_report_says_so():
    shell = _moved()
    assert _carry_out(shell.own, _order(PinKeys, KEYS[:2]), shell.now_s).num_chunks == 2
    result = _part(shell, _order(EvictKeys, id=6, heir="a"))
    assert (result.num_chunks, _left(result)) == (4, {LeftReason.PINNED: 2})
    assert _here(shell.own) == set(KEYS[:2])


def test_an_unknown_target_is_waited_for_until_the_time_is_over():
    shell = _moved()
    order = _order(EvictKeys, heir="x")
    assert _carry_out(shell.own, order, shell.now_s) is None
    result = _carry_out(shell.own, order, shell.now_s + 1.0)
    assert _left(result) == {LeftReason.NOT_AT_TARGET: 6}
    assert _here(shell.own) == set(KEYS)
