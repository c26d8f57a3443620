"""Links are made before a fetch needs them: to whom, how many, and when not."""

from itertools import pairwise

import pytest

from p2p.backend.connecting_ahead import AheadLimits
from p2p.backend.handshake import PeerState
from p2p.backend.reader import ReaderCore
from p2p.wire.messages import Hello, LeaseRequest, PeerList
from tests.unit.backend.builders import holder_of, instance_core, prompt
from tests.unit.backend.shell import Shell

KEYS = prompt(8)
EAGER = AheadLimits(links=16, near=4, pause_s=0.25)


def _shell(num, limits=EAGER, hosts=(), **parts):
    names = [f"h{number}" for number in range(num)]
    holders = [
        instance_core(name, host=hosts[number] if hosts else "")
        for number, name in enumerate(names)
    ]
    shell = Shell(holders, own=instance_core("r", host="here"), **parts)
    shell.reader = ReaderCore(shell.own, shell.limits, limits)
    return shell


def _list(shell, *names, version=1):
    """The controller lists members, all by default."""
    cores = [shell.cores[name] for name in names or shell.cores]
    peers = tuple(holder_of(core) for core in cores)
    roster = shell.own.membership.roster
    roster.take(PeerList(epoch=1, version=version, peers=peers), shell.now_s)


def _run(shell, seconds):
    for _ in range(round(seconds / 0.05)):
        shell.advance(0.05)


def _linked(shell):
    state = shell.reader.book.state
    return {name for name in shell.cores if state(name) is PeerState.LINKED}


def test_some_members_are_linked_at_the_start():
    shell = _shell(8)
    _list(shell)
    _run(shell, 3.0)
    assert len(_linked(shell)) == 4
    assert shell.own.counters["links_begun_ahead"] == 4
    assert not shell.sent(LeaseRequest)
    assert shell.reader.is_idle


def test_readers_choose_different_members():
    chosen = set()
    for number in range(8):
        shell = _shell(64)
        shell.own.membership.identity = instance_core(f"r{number}").identity
        _list(shell)
        _run(shell, 3.0)
        chosen |= _linked(shell)
    assert len(chosen) > 20


def test_members_on_our_host_come_first():
    hosts = ["there"] * 6 + ["here"] * 2
    shell = _shell(8, AheadLimits(links=16, near=2), hosts=hosts)
    _list(shell)
    _run(shell, 3.0)
    assert _linked(shell) == {"h6", "h7"}


def test_instances_that_start_together_do_not_begin_together():
    began = []
    for number in range(8):
        shell = _shell(4)
        shell.own.membership.identity = instance_core(f"r{number}").identity
        _list(shell)
        while not shell.sent(Hello):
            shell.advance(0.01)
        began.append(shell.now_s - 100.0)
    assert max(began) - min(began) > 0.3
    assert max(began) < 1.1


def test_they_are_begun_one_after_the_other():
    shell = _shell(8)
    _list(shell)
    times: list[float] = []
    for _ in range(300):
        shell.advance(0.01)
        if len(shell.sent(Hello)) > len(times):
            times.append(shell.now_s)
    assert len(times) == 4
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert min(gaps) >= 0.249


def test_two_at_a_time_are_being_linked():
    shell = _shell(8)
    shell.slow_links = set(shell.cores)
    _list(shell)
    _run(shell, 3.0)
    assert len(shell.opening) == 2
    shell.link(shell.opening[0])
    _run(shell, 0.3)
    assert len(shell.opening) == 2


def test_a_member_that_comes_later_takes_a_place_that_is_left():
    shell = _shell(8)
    _list(shell, "h0")
    _run(shell, 2.0)
    _list(shell, version=2)
    _run(shell, 2.0)
    assert len(_linked(shell)) == 4
    assert "h0" in _linked(shell)


def test_all_holders_that_an_answer_names_are_linked_after_the_fetch():
    shell = _shell(4, AheadLimits(links=16, near=0))
    for core in shell.holders:
        shell.put(core, KEYS)
    fetch = shell.fetch(KEYS)
    assert shell.check_delivered(fetch, KEYS) == 8
    assert len(_linked(shell)) == 1
    _run(shell, 1.0)
    assert len(_linked(shell)) == 4


def test_who_is_named_to_a_question_without_a_fetch_is_linked():
    shell = _shell(2, AheadLimits(links=16, near=0))
    assert shell.reader.note_named([holder_of(shell.cores["h1"])])
    shell.advance(0.0)
    assert _linked(shell) == {"h1"}
    assert not shell.reader.note_named([holder_of(shell.cores["h1"])])


def test_nothing_is_begun_while_somebody_waits_for_a_fetch():
    shell = _shell(4, AheadLimits(links=16, near=0), holds_reads=True)
    for core in shell.holders:
        shell.put(core, KEYS)
    shell.fetch(KEYS, budget_s=3.0)
    _run(shell, 0.5)
    assert len(shell.sent(Hello)) == 1
    while shell.reads:
        shell.finish(shell.reads[0])
    _run(shell, 1.0)
    assert len(shell.sent(Hello)) == 4


def test_there_are_never_more_links_than_allowed():
    shell = _shell(8, AheadLimits(links=3, near=8, pause_s=0.01))
    _list(shell)
    shell.reader.note_named([holder_of(core) for core in shell.holders])
    _run(shell, 3.0)
    assert len(_linked(shell)) == 3
    assert shell.reader.is_idle


@pytest.mark.parametrize("limits", [AheadLimits(links=0, near=4), None])
def test_it_can_be_off(limits):
    shell = _shell(8, limits)
    _list(shell)
    assert not shell.reader.note_named([holder_of(shell.cores["h1"])])
    _run(shell, 3.0)
    assert not shell.sent(Hello)
    assert shell.reader.is_idle


def test_nobody_links_to_itself():
    shell = _shell(1)
    assert not shell.reader.note_named([holder_of(shell.own)])


def test_a_member_that_is_down_is_left_alone_until_it_is_due():
    shell = _shell(1, AheadLimits(links=4, near=0), broken_links={"h0"})
    shell.reader.note_named([holder_of(shell.cores["h0"])])
    shell.advance(0.0)
    shell.reader.note_named([holder_of(shell.cores["h0"])])
    shell.advance(0.1)
    assert len(shell.sent(Hello)) == 1
    shell.broken_links.clear()
    shell.advance(0.2)
    shell.reader.note_named([holder_of(shell.cores["h0"])])
    shell.advance(0.0)
    assert _linked(shell) == {"h0"}


def test_a_first_hit_over_a_link_made_ahead_waits_for_no_contact():
    shell = _shell(1, limits=EAGER)
    shell.put(shell.holders[0], KEYS)
    _list(shell)
    _run(shell, 2.0)
    shell.slow_links = {"h0"}
    fetch = shell.fetch(KEYS, budget_s=0.1)
    assert shell.check_delivered(fetch, KEYS) == 8


def test_a_new_list_of_members_is_news_to_the_reading_half():
    core = instance_core("r")
    assert not core.take_news()
    core.membership.roster.take(PeerList(epoch=1, version=1, peers=()), 0.0)
    assert core.take_news()
    assert not core.take_news()
