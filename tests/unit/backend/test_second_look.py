"""A holder that is late or lost for a moment lives: the fetch asks the directory once more."""

import pytest

from p2p.backend.actions import AskController, ShortReason
from p2p.backend.fetch_context import FetchLimits
from p2p.wire.messages import LeaseRequest
from tests.unit.backend.builders import instance_core, prompt
from tests.unit.backend.shell import Shell

KEYS = prompt(8)
LIMITS = FetchLimits(num_windows=4)


def _shell(*names, limits=LIMITS, **parts):
    shell = Shell([instance_core(name) for name in names], limits=limits, **parts)
    for core in shell.holders:
        shell.put(core, KEYS)
    return shell


def _run(shell, fetch, seconds, step_s=0.01):
    """Lets time pass in small steps, until the outcome is there; returns how long it took."""
    started_s = shell.now_s
    while fetch.outcome is None and shell.now_s < started_s + seconds:
        shell.advance(step_s)
    return shell.now_s - started_s


def _num_looks(shell):
    return sum(isinstance(action, AskController) for action in shell.log) - 1


def _link(shell):
    """The holders are known and linked."""
    fetch = shell.fetch(KEYS[:1])
    for entry in shell.outcome(fetch).entries:
        shell.own.unpin(entry)
    shell.own.clear()
    shell.log.clear()


def test_a_holder_that_answers_late_still_serves_the_whole_hit():
    shell = _shell("a")
    _link(shell)
    shell.silent = {"a"}
    fetch = shell.fetch(KEYS, budget_s=10.0)
    _run(shell, fetch, 1.2)
    shell.silent.clear()
    for question in list(shell.unanswered):
        shell.answer(question)
    took_s = 1.2 + _run(shell, fetch, 5.0)
    assert shell.check_delivered(fetch, KEYS) == 8
    assert took_s < 1.5
    shell.check_nothing_left(fetch)


def test_a_dead_holder_costs_a_second_more_at_most():
    shell = _shell("a")
    shell.silent = {"a"}
    fetch = shell.fetch(KEYS, budget_s=8.0)
    assert _run(shell, fetch, 5.0) <= 1.0 + 1.1
    assert shell.outcome(fetch).reason is ShortReason.LINK_SLOW
    assert _num_looks(shell) == 3


@pytest.mark.parametrize(("budget_s", "limits"), [(1.0, LIMITS), (2.5, LIMITS)])
def test_with_little_time_left_nobody_looks(budget_s, limits):
    shell = _shell("a", limits=limits)
    shell.silent = {"a"}
    fetch = shell.fetch(KEYS, budget_s=budget_s)
    assert _run(shell, fetch, budget_s) <= min(1.0, budget_s / 4) + 0.011
    assert _num_looks(shell) == 0


def test_in_the_last_quarter_nobody_looks():
    shell = _shell("a", holds_reads=True)
    fetch = shell.fetch(KEYS, budget_s=20.0)
    shell.advance(15.0)
    for read in list(shell.reads):
        shell.fail(read)
    assert fetch.outcome is not None
    assert _num_looks(shell) == 0


def test_a_holder_whose_link_broke_once_is_linked_again():
    shell = _shell("a", holds_reads=True)
    fetch = shell.fetch(KEYS, budget_s=10.0)
    shell.finish(shell.reads[0])
    for read in list(shell.reads):
        shell.fail(read)
    assert fetch.outcome is None
    shell.holds_reads = False
    assert _run(shell, fetch, 5.0) < 0.5
    assert shell.check_delivered(fetch, KEYS) == 8
    (source,) = shell.outcome(fetch).sources
    assert source.num_chunks == 8  # its tally goes on
    shell.check_nothing_left(fetch)


def test_every_arrival_gives_new_looks():
    shell = _shell("a", holds_reads=True)
    fetch = shell.fetch(KEYS, budget_s=20.0)
    for _ in range(4):
        shell.finish(shell.reads[0])
        for read in list(shell.reads):
            shell.fail(read)
        while fetch.outcome is None and not shell.reads:
            shell.advance(0.01)
    assert shell.check_delivered(fetch, KEYS) == 8


def test_a_prompt_that_nobody_holds_is_a_miss_at_once():
    shell = _shell("a")
    fetch = shell.fetch(prompt(8, salt="other"), budget_s=10.0)
    assert shell.outcome(fetch).reason is ShortReason.NO_HOLDER
    assert _num_looks(shell) == 0


def test_what_was_evicted_is_looked_for_once():
    shell = _shell("a")
    full = shell.locate
    shell.locate = lambda question: (full(question), shell.drop(shell.cores["a"], KEYS[3:]))[0]
    fetch = shell.fetch(KEYS, budget_s=10.0)
    shell.locate = full
    assert _run(shell, fetch, 5.0) < 0.15
    assert shell.outcome(fetch).reason is ShortReason.EVICTED
    assert shell.check_delivered(fetch, KEYS) == 3
    assert _num_looks(shell) == 1


def test_a_holder_whose_reads_end_is_asked_again_later():
    limits = FetchLimits(num_windows=8, reads_per_holder=1, ask_timeout_s=0.2)
    shell = _shell("a", limits=limits, holds_reads=True)
    shell.cores["a"].leases.limits = type(shell.cores["a"].leases.limits)(
        bytes_per_reader=4 * shell.own.chunk_bytes
    )
    fetch = shell.fetch(KEYS, budget_s=10.0)
    shell.silent = {"a"}
    num_left = 0
    for _ in range(4):
        shell.advance(0.15)
        if shell.reads:
            shell.finish(shell.reads[0])
        num_left += shell.own.counters["holder_left_peer_silent"]
    assert not num_left
    shell.silent.clear()
    shell.holds_reads = False
    for read in list(shell.reads):
        shell.finish(read)
    _run(shell, fetch, 5.0)
    assert shell.check_delivered(fetch, KEYS) == 8
    assert len(shell.sent(LeaseRequest, "a")) >= 2
