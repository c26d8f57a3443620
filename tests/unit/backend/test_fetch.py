"""A fetch where nothing goes wrong: from whom it reads, what it delivers, what it leaves behind."""

import pytest

from p2p.backend.actions import AskController, AskPeer, Phase, Read, ShortReason, TellPeer
from p2p.backend.fetch_context import FetchLimits
from p2p.backend.plan import PlanLimits
from p2p.wire.messages import Hello, LeaseRelease, LeaseRequest
from tests.unit.backend.builders import CHUNK_BYTES, instance_core, prompt
from tests.unit.backend.shell import Shell, content_of

KEYS = prompt(8)
STRIPED = FetchLimits(
    plan=PlanLimits(stripe_bytes=CHUNK_BYTES, max_stripes=4), num_windows=8, reads_per_holder=2
)


def _shell(*names, limits=None):
    shell = Shell([instance_core(name) for name in names], limits=limits or FetchLimits())
    for core in shell.holders:
        shell.put(core, KEYS)
    return shell


def test_a_whole_prompt_comes_from_its_holder():
    shell = _shell("a")
    fetch = shell.fetch(KEYS)
    assert shell.check_delivered(fetch, KEYS) == 8
    outcome = shell.outcome(fetch)
    assert (outcome.reason, outcome.detail, outcome.num_local) == (ShortReason.COMPLETE, "", 0)
    (source,) = outcome.sources
    assert (source.instance, source.num_chunks, source.num_bytes) == ("a", 8, 8 * CHUNK_BYTES)
    shell.check_nothing_left(fetch)


def test_fetched_chunks_are_advertised_as_ours():
    shell = _shell("a")
    shell.fetch(KEYS)
    assert shell.own.feed.last_seq == 8
    assert shell.own.feed.view_hash == shell.holders[0].feed.view_hash


def test_chunks_that_are_here_need_no_message():
    shell = _shell("a")
    shell.put(shell.own, KEYS)
    fetch = shell.fetch(KEYS)
    assert shell.check_delivered(fetch, KEYS) == 8
    assert shell.outcome(fetch).num_local == 8
    assert shell.log == []
    shell.check_nothing_left(fetch)


def test_a_fetch_of_no_keys_is_complete_at_once():
    shell = _shell("a")
    fetch = shell.fetch([])
    assert (list(shell.outcome(fetch).entries), shell.outcome(fetch).reason) == (
        [],
        ShortReason.COMPLETE,
    )
    assert shell.log == []


def test_only_what_lies_behind_the_local_prefix_is_asked_for():
    shell = _shell("a")
    shell.put(shell.own, KEYS[:3])
    fetch = shell.fetch(KEYS)
    assert shell.check_delivered(fetch, KEYS) == 8
    assert shell.outcome(fetch).num_local == 3
    (question,) = [action for action in shell.log if isinstance(action, AskController)]
    assert question.message.keys == b"".join(KEYS[3:])


def test_chunks_that_are_here_in_the_middle_are_kept_and_not_read():
    shell = _shell("a")
    shell.put(shell.own, KEYS)
    shell.drop(shell.own, KEYS[:2] + KEYS[5:])
    fetch = shell.fetch(KEYS)
    assert shell.check_delivered(fetch, KEYS) == 8
    assert sum(len(action.local) for action in shell.log if isinstance(action, Read)) == 5
    assert [entry.roots[0] for entry in shell.outcome(fetch).entries[2:5]] == [
        content_of("r", key) for key in KEYS[2:5]
    ]
    shell.check_nothing_left(fetch)


def test_a_chunk_here_behind_a_chunk_of_nobody_is_not_delivered_and_not_left_pinned():
    shell = _shell("a")
    shell.holders[0].clear()
    shell.put(shell.own, KEYS)
    shell.drop(shell.own, KEYS[1:2])
    fetch = shell.fetch(KEYS)
    assert shell.check_delivered(fetch, KEYS) == 1
    assert shell.outcome(fetch).reason is ShortReason.NO_HOLDER
    shell.check_nothing_left(fetch)


def test_a_chain_is_covered_by_several_holders():
    shell = Shell([instance_core("a"), instance_core("b")])
    shell.put(shell.cores["a"], KEYS[:4])
    shell.put(shell.cores["b"], KEYS)
    shell.drop(shell.cores["b"], KEYS[:4])
    fetch = shell.fetch(KEYS)
    assert shell.check_delivered(fetch, KEYS) == 8
    assert {source.instance: source.num_chunks for source in shell.outcome(fetch).sources} == {
        "a": 4, "b": 4,
    }  # fmt: skip


def test_a_long_run_is_read_from_two_holders_at_once():
    shell = _shell("a", "b", limits=STRIPED)
    shell.holds_reads = True
    fetch = shell.fetch(KEYS)
    assert {read.instance for read in shell.reads} == {"a", "b"}
    while shell.reads:
        shell.finish(shell.reads[0])
    assert shell.check_delivered(fetch, KEYS) == 8
    assert [source.num_chunks for source in shell.outcome(fetch).sources] == [4, 4]
    shell.check_nothing_left(fetch)


def test_a_faster_holder_takes_more_of_a_long_run():
    shell = _shell("a", "b", limits=STRIPED)
    shell.holds_reads = True
    fetch = shell.fetch(KEYS)
    while any(read.instance == "a" for read in shell.reads):
        shell.finish(next(read for read in shell.reads if read.instance == "a"))
    while shell.reads:
        shell.finish(shell.reads[0])
    assert {source.instance: source.num_chunks for source in shell.outcome(fetch).sources} == {
        "a": 6, "b": 2,
    }  # fmt: skip


def test_a_short_run_is_read_from_one_of_its_holders():
    shell = _shell("a", "b")
    shell.fetch(KEYS)
    assert len(shell.sent(LeaseRequest)) == 1


def test_no_more_reads_are_under_way_at_a_holder_than_allowed():
    shell = _shell("a", limits=FetchLimits(reads_per_holder=3, reads_if_unknown=3, num_windows=8))
    shell.holds_reads = True
    shell.fetch(KEYS)
    assert len(shell.reads) == 3


def test_a_slow_holder_has_little_under_way_but_something_of_every_fetch():
    shell = _shell("a", limits=FetchLimits(reads_per_holder=4, num_windows=8))
    shell.holds_reads = True
    speeds = shell.reader.book.speeds
    speeds.started("a", 1 << 20, shell.now_s - (1 << 20) / CHUNK_BYTES)
    speeds.ended("a", 1 << 20, shell.now_s, is_good=True)  # one chunk a second
    first, second = shell.fetch(KEYS, budget_s=60.0), shell.fetch(KEYS, budget_s=60.0)
    assert len(shell.reads) == 2
    while shell.reads:
        shell.finish(shell.reads[-1])
    assert first.outcome is not None
    assert second.outcome is not None


@pytest.mark.parametrize(
    ("limits", "num_reads"),
    [
        (FetchLimits(num_windows=1), 1),
        (FetchLimits(num_windows=4), 4),
        (FetchLimits(num_windows=100), 8),
        (FetchLimits(num_windows=1, window_bytes=3 * CHUNK_BYTES), 3),
        (FetchLimits(num_windows=1, window_bytes=1), 8),
    ],
)
def test_windows_are_as_large_as_the_limits_say(limits, num_reads):
    shell = _shell("a", limits=limits)
    shell.fetch(KEYS)
    assert sum(isinstance(action, Read) for action in shell.log) == num_reads


def test_phases_are_reported_in_order_and_timed():
    shell = _shell("a", limits=FetchLimits(num_windows=1))
    shell.holds_reads = shell.holds_verify = True
    fetch = shell.fetch(KEYS)
    assert shell.phases == [Phase.AFTER_LOCATE, Phase.AFTER_LEASE]
    shell.advance(0.1)
    shell.finish(shell.reads[0])
    assert shell.phases[2:] == [Phase.MID_TRANSFER, Phase.BEFORE_VERIFY]
    assert (fetch.num_arrived, fetch.num_chunks) == (8, 8)
    shell.advance(0.1)
    shell.verify(shell.to_verify[0])
    assert shell.phases[4:] == [Phase.AFTER_COMMIT]
    seconds = shell.outcome(fetch).phases_s
    assert list(seconds) == [*(phase.value for phase in Phase), "done"]
    assert list(seconds.values()) == pytest.approx([0, 0, 0.1, 0.1, 0.2, 0.2])


def test_a_holder_is_greeted_once_before_its_first_lease():
    shell = _shell("a")
    first = shell.fetch(KEYS[:4])
    second = shell.fetch(KEYS)
    asked = [type(action.message) for action in shell.log if isinstance(action, AskPeer)]
    assert asked == [Hello, LeaseRequest, LeaseRequest]
    shell.check_nothing_left(first, second)


def test_leases_are_given_back_when_the_outcome_is_there():
    shell = _shell("a")
    shell.fetch(KEYS)
    (release,) = [action for action in shell.log if isinstance(action, TellPeer)]
    assert isinstance(release.message, LeaseRelease)
    assert len(shell.holders[0].leases) == 0


def test_two_fetches_of_the_same_chunks_share_them_in_the_end():
    shell = _shell("a")
    shell.holds_reads = True
    fetches = [shell.fetch(KEYS), shell.fetch(KEYS)]
    while shell.reads:
        shell.finish(shell.reads[-1])
    assert [shell.check_delivered(fetch, KEYS) for fetch in fetches] == [8, 8]
    assert len(shell.own.index) == 8
    shell.check_nothing_left(*fetches)


def test_a_tenant_s_chunks_are_delivered_to_it_and_to_nobody_else():
    shell = Shell([instance_core("a")])
    shell.put(shell.holders[0], KEYS, tenant="t")
    foreign = shell.fetch(KEYS, tenant="u")
    assert shell.check_delivered(foreign, KEYS) == 0
    own = shell.fetch(KEYS, tenant="t")
    assert shell.check_delivered(own, KEYS) == 8
    assert {entry.tenants for entry in shell.outcome(own).entries} == {("t",)}
    shell.check_nothing_left(foreign, own)
