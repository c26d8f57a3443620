"""A fetch whose directory is silent, recovering, or behind: what is missing is named."""

import pytest

from p2p.backend.actions import ShortReason
from p2p.wire.messages import PeerList
from tests.unit.backend.builders import holder_of, instance_core, prompt
from tests.unit.backend.shell import Shell

KEYS = prompt(8)


def _shell(name, **parts):
    shell = Shell([instance_core(name)], **parts)
    shell.put(shell.holders[0], KEYS)
    return shell


def test_a_silent_controller_is_waited_for_no_longer_than_a_quarter_of_the_budget():
    shell = _shell("a", is_controller_silent=True)
    shell.put(shell.own, KEYS[:2])
    fetch = shell.fetch(KEYS)
    shell.advance(0.24)
    assert fetch.outcome is None
    assert shell.reader.next_deadline_s() == pytest.approx(100.25)
    shell.advance(0.01)
    assert shell.check_delivered(fetch, KEYS) == 2
    assert shell.outcome(fetch).reason is ShortReason.CONTROLLER_SILENT
    shell.check_nothing_left(fetch)


def test_chunks_of_nobody_end_the_prefix():
    shell = Shell([instance_core("a")])
    shell.put(shell.holders[0], KEYS[:5])
    fetch = shell.fetch(KEYS)
    assert shell.check_delivered(fetch, KEYS) == 5
    assert shell.outcome(fetch).reason is ShortReason.NO_HOLDER
    shell.check_nothing_left(fetch)


def test_a_miss_in_a_recovering_directory_says_so():
    shell = Shell([instance_core("a")], is_partial=True)
    assert shell.outcome(shell.fetch(KEYS)).reason is ShortReason.DIRECTORY_PARTIAL


def test_what_the_only_holder_evicted_since_is_named():
    shell = _shell("a")
    full = shell.locate
    shell.locate = lambda question: (full(question), shell.drop(shell.cores["a"], KEYS[3:]))[0]
    fetch = shell.fetch(KEYS)
    assert shell.check_delivered(fetch, KEYS) == 3
    outcome = shell.outcome(fetch)
    assert (outcome.reason, outcome.detail) == (
        ShortReason.EVICTED, "a no longer has chunk 3",
    )  # fmt: skip
    shell.check_nothing_left(fetch)


def _without_controller(*names, age_s=0.0):
    shell = Shell([instance_core(name) for name in names], is_controller_silent=True)
    for core in shell.holders:
        shell.put(core, KEYS)
    peers = tuple(holder_of(core) for core in shell.cores.values())
    members = PeerList(epoch=1, version=1, peers=peers)
    shell.own.membership.roster.take(members, shell.now_s - age_s)
    return shell


def test_known_peers_are_asked_where_the_directory_is_silent():
    shell = _without_controller("a")
    fetch = shell.fetch(KEYS)
    assert fetch.outcome is None
    shell.advance(0.25)
    assert shell.check_delivered(fetch, KEYS) == len(KEYS)
    assert shell.own.counters["peers_asked_directly"] == 1
    shell.check_nothing_left(fetch)


def test_not_more_than_four_peers_are_asked_directly():
    shell = _without_controller(*"abcdefg")
    shell.fetch(KEYS)
    shell.advance(0.25)
    assert shell.own.counters["peers_asked_directly"] == 4


def test_a_list_of_peers_that_is_too_old_is_of_no_use():
    shell = _without_controller("a", age_s=301.0)
    fetch = shell.fetch(KEYS)
    shell.advance(0.25)
    assert shell.outcome(fetch).reason is ShortReason.CONTROLLER_SILENT


def test_a_directory_that_was_silent_before_is_not_waited_for():
    shell = _without_controller("a")
    shell.own.membership.num_unanswered = 2
    fetch = shell.fetch(KEYS)
    shell.advance(0.02)
    assert shell.check_delivered(fetch, KEYS) == len(KEYS)
