"""Reading a second time what comes late."""

import pytest

from p2p.backend.actions import AskController, Read, ShortReason
from p2p.backend.fetch_context import FetchLimits
from p2p.wire.messages import Locate
from tests.unit.backend.builders import CHUNK_BYTES, instance_core, prompt
from tests.unit.backend.shell import Shell

KEYS = prompt(20)
LATE_S = 0.17  # half of the time after which a read of a second's fetch is given up
LIMITS = FetchLimits(window_bytes=2 * CHUNK_BYTES, num_windows=1)


def _shell(*names: str, limits: FetchLimits = LIMITS) -> Shell:
    holders = [instance_core(name, num_slots=32) for name in names]
    shell = Shell(holders, own=instance_core("r", num_slots=32), limits=limits, holds_reads=True)
    for core in holders:
        shell.put(core, KEYS)
    return shell


def _finish_all_but_last(shell: Shell) -> Read:
    """Lets every read but the newest arrive, until everything is given out."""
    while len(shell.reads) > 1 or _num_given_out(shell) < len(KEYS):
        shell.finish(shell.reads[0])
    return shell.reads[0]


def _num_given_out(shell: Shell) -> int:
    return len({slot for action in shell.log if isinstance(action, Read) for slot in action.local})


def test_the_last_read_is_made_again_elsewhere_once_it_is_late():
    shell = _shell("a", "b")
    fetch = shell.fetch(KEYS)
    slow = _finish_all_but_last(shell)
    shell.advance(LATE_S - 0.01)
    assert shell.reads == [slow]
    shell.advance(0.02)
    assert [read.instance for read in shell.reads[1:]] == [{"a": "b", "b": "a"}[slow.instance]]
    assert shell.own.counters["chunks_hedged"] == 2
    shell.finish(shell.reads[1])
    assert shell.check_delivered(fetch, KEYS) == len(KEYS)
    shell.finish(slow)  # its bytes are of no use any more
    shell.check_nothing_left(fetch)


def test_the_first_copy_counts_even_if_it_is_the_late_one():
    shell = _shell("a", "b")
    fetch = shell.fetch(KEYS)
    slow = _finish_all_but_last(shell)
    shell.advance(LATE_S)
    shell.finish(slow)
    assert shell.check_delivered(fetch, KEYS) == len(KEYS)
    shell.finish(shell.reads[0])
    shell.check_nothing_left(fetch)


def test_a_failed_copy_leaves_the_other_one_alone():
    shell = _shell("a", "b")
    fetch = shell.fetch(KEYS)
    slow = _finish_all_but_last(shell)
    shell.advance(LATE_S)
    shell.fail(slow)
    (other,) = shell.reads
    assert fetch.outcome is None
    shell.finish(other)
    assert shell.check_delivered(fetch, KEYS) == len(KEYS)
    shell.check_nothing_left(fetch)


def test_a_damaged_copy_leaves_the_other_one_alone():
    shell = _shell("a", "b")
    fetch = shell.fetch(KEYS)
    slow = _finish_all_but_last(shell)
    shell.advance(LATE_S)
    other = shell.reads[1]
    shell.corrupt = {other.instance}
    shell.finish(other)
    assert fetch.outcome is None
    shell.finish(slow)
    assert shell.check_delivered(fetch, KEYS) == len(KEYS)
    shell.check_nothing_left(fetch)


def test_no_more_than_a_tenth_is_read_twice():
    shell = _shell("a", "b")
    shell.fetch(KEYS)
    while shell.own.counters["chunks_hedged"] == 0:
        if _num_given_out(shell) < len(KEYS):
            shell.finish(shell.reads[0])
        else:
            shell.advance(LATE_S)
    assert len(shell.reads) > 2
    shell.advance(0.01)
    assert shell.own.counters["chunks_hedged"] == len(KEYS) // 10


@pytest.mark.parametrize("share", [0.0, 0.04])
def test_with_less_than_a_chunk_to_spare_nothing_is_read_twice(share):
    limits = FetchLimits(window_bytes=2 * CHUNK_BYTES, num_windows=1, hedge_share=share)
    shell = _shell("a", "b", limits=limits)
    shell.fetch(KEYS)
    slow = _finish_all_but_last(shell)
    shell.advance(LATE_S)
    assert shell.reads == [slow]


def test_with_a_single_holder_the_late_read_is_made_again_there():
    shell = _shell("a")
    fetch = shell.fetch(KEYS)
    slow = _finish_all_but_last(shell)
    shell.advance(LATE_S)
    assert [read.instance for read in shell.reads] == ["a", "a"]
    shell.finish(shell.reads[1])
    assert shell.check_delivered(fetch, KEYS) == len(KEYS)
    shell.finish(slow)
    shell.check_nothing_left(fetch)


def _measured(shell: Shell, instance: str, bytes_per_s: float) -> None:
    num_bytes = 1 << 20
    speeds = shell.reader.book.speeds
    speeds.started(instance, num_bytes, shell.now_s - num_bytes / bytes_per_s)
    speeds.ended(instance, num_bytes, shell.now_s, is_good=True)


NUM_TOKENS = len(KEYS) * 4
NUM_BYTES = len(KEYS) * CHUNK_BYTES


@pytest.mark.parametrize(
    ("bytes_per_s", "tokens_per_s", "is_read"),
    [
        (NUM_BYTES / 0.1, NUM_TOKENS / 0.2, True),
        (NUM_BYTES / 0.4, NUM_TOKENS / 0.2, False),
        (NUM_BYTES / 0.1, NUM_TOKENS / 0.05, False),
        (None, NUM_TOKENS / 0.05, True),
        (NUM_BYTES / 0.4, None, True),
    ],
)
def test_what_takes_longer_to_read_than_to_compute_is_not_read(bytes_per_s, tokens_per_s, is_read):
    shell = _shell("a")
    shell.holds_reads = False
    if bytes_per_s is not None:
        _measured(shell, "a", bytes_per_s)
    if tokens_per_s is not None:
        shell.own.prefill.note(tokens_per_s, 1.0, shell.now_s)
    fetch = shell.fetch(KEYS)
    outcome = shell.outcome(fetch)
    assert (outcome.reason is ShortReason.COMPLETE) is is_read
    if not is_read:
        assert outcome.reason is ShortReason.RECOMPUTE_CHOSEN
        assert shell.own.counters["fetches_left_to_compute"] == 1
    shell.check_nothing_left(fetch)


@pytest.mark.parametrize(
    ("pull", "reason"),
    [("always", ShortReason.COMPLETE), ("never", ShortReason.RECOMPUTE_CHOSEN)],
)
def test_the_choice_can_be_forced(pull, reason):
    shell = _shell("a", limits=FetchLimits(pull=pull))
    shell.holds_reads = False
    _measured(shell, "a", NUM_BYTES / 0.4)
    shell.own.prefill.note(NUM_TOKENS, 0.2, shell.now_s)
    fetch = shell.fetch(KEYS)
    assert shell.outcome(fetch).reason is reason
    shell.check_nothing_left(fetch)


def test_what_is_here_is_delivered_though_the_rest_is_computed():
    shell = _shell("a")
    shell.put(shell.own, KEYS[:5])
    _measured(shell, "a", NUM_BYTES / 40)
    shell.own.prefill.note(NUM_TOKENS, 0.2, shell.now_s)
    fetch = shell.fetch(KEYS)
    assert shell.check_delivered(fetch, KEYS) == 5
    shell.check_nothing_left(fetch)


def test_a_slow_holder_is_not_asked_ahead_of_the_directory():
    shell = _shell("a")
    shell.holds_reads = False
    for number in range(3):
        shell.fetch([KEYS[number]])
    _measured(shell, "a", NUM_BYTES / 40)
    shell.own.prefill.note(NUM_TOKENS, 0.2, shell.now_s)
    fetch = shell.fetch(KEYS)
    assert shell.outcome(fetch).reason is ShortReason.RECOMPUTE_CHOSEN


def test_the_directorys_answer_to_a_fetch_that_has_ended_changes_nothing():
    shell = _shell("a", limits=FetchLimits())
    shell.own = instance_core("r", num_slots=5)
    shell = Shell(shell.holders, own=shell.own, memory=shell.memory)
    guessed = shell.fetch([KEYS[10]])
    shell.put(shell.own, [KEYS[0]])
    shell.put(shell.own, [KEYS[4]])
    shell.is_controller_silent = True
    fetch = shell.fetch(KEYS[:6])  # a is asked ahead of the directory; there is room for two
    outcome = shell.outcome(fetch)
    assert (len(outcome.entries), outcome.reason) == (3, ShortReason.POOL_FULL)
    _measured(shell, "a", NUM_BYTES / 40)
    shell.own.prefill.note(NUM_TOKENS, 0.2, shell.now_s)
    question = next(one for one in reversed(shell.log) if isinstance(one, AskController))
    assert isinstance(question.message, Locate)
    fetch.on_located(shell.locate(question.message), shell.now_s)
    shell.carry_out()
    assert fetch.outcome is outcome
    assert shell.own.counters["fetches_left_to_compute"] == 0
    shell.check_nothing_left(fetch, guessed)


def test_a_holder_that_was_asked_without_the_directory_and_is_too_slow_gets_help():
    shell = _shell("a")
    shell.holds_reads = False
    guessed = [shell.fetch([KEYS[-number]]) for number in (1, 2, 3)]  # only a has them
    other = instance_core("b", num_slots=32)
    shell.cores["b"] = other
    shell.put(other, KEYS)
    shell.holds_reads = True
    shell.log.clear()
    fetch = shell.fetch(KEYS[:16])
    assert not any(isinstance(action, AskController) for action in shell.log)
    while not any(read.instance == "b" for read in shell.reads):
        shell.advance(0.15)
        assert fetch.outcome is None
        shell.finish(shell.reads[0])
    shell.holds_reads = False
    while shell.reads:
        shell.finish(shell.reads[0])
    assert shell.check_delivered(fetch, KEYS[:16]) == 16
    shell.check_nothing_left(fetch, *guessed)
