"""Which fetched chunks stay when a pool is full."""

import pytest

from p2p.backend.fetch_context import Behalf, FetchLimits
from p2p.backend.hot import HotLimits
from p2p.backend.keep import DroppedCopies, is_kept
from tests.unit.backend.builders import ask, hello, instance_core, lease_request, prompt
from tests.unit.backend.shell import Shell

KEYS = prompt(4)
OTHER = prompt(4, salt="other")


def _shell(keep="hot", num_slots=8):
    """A reader with room for two prompts and a holder that has one."""
    shell = Shell(
        [instance_core("a", 64)],
        own=instance_core("r", num_slots),
        limits=FetchLimits(keep=keep),
    )
    shell.put(shell.holders[0], KEYS)
    return shell


def _fetch(shell, keys):
    """Fetches, checks that all came, and releases."""
    fetch = shell.fetch(keys)
    assert len(fetch.outcome.entries) == len(keys)
    for entry in fetch.outcome.entries:
        shell.own.unpin(entry)
    shell.own.check_integrity()


def _spare(shell, keys=KEYS):
    return [entry.is_spare for entry in shell.own.index.prefix(keys, "")]


def _here(shell, keys):
    return [shell.own.index.get(key) is not None for key in keys]


def _fill_pool(shell):
    """Two prompts are computed: as many chunks as the pool has slots."""
    shell.put(shell.own, OTHER)
    shell.put(shell.own, prompt(4, salt="third"))


@pytest.mark.parametrize("keep", ["hot", "never"])
def test_copies_go_before_what_is_nowhere_else(keep):
    shell = _shell(keep)
    shell.put(shell.own, OTHER)
    _fetch(shell, KEYS)
    shell.put(shell.own, prompt(4, salt="third"))
    assert _here(shell, KEYS) == [False] * 4
    assert _here(shell, OTHER) == [True] * 4
    assert shell.own.counters["evicted_spare_copies"] == 4


def test_always_treats_copies_like_computed_chunks():
    shell = _shell("always")
    shell.put(shell.own, OTHER)
    _fetch(shell, KEYS)
    shell.put(shell.own, prompt(4, salt="third"))
    assert _here(shell, KEYS) == [True] * 4
    assert _here(shell, OTHER) == [False] * 4


def test_a_copy_is_pinned_for_its_caller():
    shell = _shell(num_slots=4)
    fetch = shell.fetch(KEYS)
    assert len(fetch.outcome.entries) == 4
    shell.put(shell.own, OTHER)
    assert _here(shell, KEYS) == [True] * 4


@pytest.mark.parametrize(("keep", "is_kept_now"), [("hot", True), ("never", False)])
def test_what_is_fetched_again_after_its_copy_went_is_kept_if_hot(keep, is_kept_now):
    shell = _shell(keep)
    _fetch(shell, KEYS)
    _fill_pool(shell)
    assert not any(_here(shell, KEYS))
    _fetch(shell, KEYS)
    assert _spare(shell) == [not is_kept_now] * 4


@pytest.mark.parametrize(("keep", "is_kept_now"), [("hot", True), ("never", False)])
def test_a_copy_that_is_used_again_is_kept_if_hot(keep, is_kept_now):
    shell = _shell(keep)
    _fetch(shell, KEYS)
    _fetch(shell, KEYS)
    assert _spare(shell) == [not is_kept_now] * 4


@pytest.mark.parametrize(("keep", "is_kept_now"), [("hot", True), ("never", False)])
def test_a_reader_that_met_a_crowd_keeps_its_copies_if_hot(keep, is_kept_now):
    crowded = instance_core("a", 64, hot=HotLimits(readers_per_chunk=1, least_bytes=1, long_s=0.0))
    shell = Shell([crowded], limits=FetchLimits(keep=keep))
    shell.put(crowded, KEYS)
    ask(crowded, hello("x"), shell.now_s)
    ask(crowded, lease_request(KEYS, instance="x"), shell.now_s)
    shell.fetch(KEYS, budget_s=4.0)
    for _ in range(100):
        shell.advance(0.02)
    assert crowded.counters["leases_busy"] > 0
    assert _spare(shell) == [not is_kept_now] * 4


def test_what_is_lent_is_no_spare_copy_any_more():
    shell = _shell("never")
    _fetch(shell, KEYS)
    ask(shell.own, hello("x"), shell.now_s)
    ask(shell.own, lease_request(KEYS[:2], instance="x"), shell.now_s)
    assert _spare(shell) == [False, False, True, True]


def test_what_a_peer_asked_to_be_taken_over_is_kept():
    shell = _shell("never")
    mark = shell.own.index.num_uses
    shell.reader.submit(KEYS, "", 1.0, shell.now_s, Behalf(mark))
    shell.carry_out()
    assert _spare(shell) == [False] * 4


def test_a_spare_copy_that_a_peer_asked_to_be_taken_over_is_kept():
    shell = _shell("never")
    _fetch(shell, KEYS)
    mark = shell.own.index.num_uses
    shell.reader.submit(KEYS, "", 1.0, shell.now_s, Behalf(mark))
    assert _spare(shell) == [False] * 4


def test_a_chunk_that_nobody_else_has_is_no_spare_copy():
    assert is_kept("never", 0, is_missed=False)
    assert is_kept("hot", 0, is_missed=False)


def test_a_missed_chunk_that_many_others_hold_is_not_kept():
    assert is_kept("hot", 3, is_missed=True)
    assert not is_kept("hot", 4, is_missed=True)
    assert not is_kept("hot", 1, is_missed=False)
    assert is_kept("always", 500, is_missed=False)


def test_the_number_of_holders_is_what_the_directory_says():
    shell = Shell([instance_core(name) for name in "abc"])
    for core in shell.holders:
        shell.put(core, KEYS)
    _fetch(shell, KEYS)
    assert [entry.num_others for entry in shell.own.index.prefix(KEYS, "")] == [3] * 4


def test_only_the_last_dropped_copies_are_remembered():
    dropped = DroppedCopies(2)
    for key in (KEYS[0], KEYS[1], KEYS[0], KEYS[2]):
        dropped.note(key)
    assert [key in dropped for key in KEYS] == [True, False, True, False]
    assert len(dropped) == 2
