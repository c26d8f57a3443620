"""Readers of one long prompt find each other, and take from each other what each has by now."""

from typing import TYPE_CHECKING

from p2p.backend.fetch_context import FetchLimits
from p2p.backend.hot import HotLimits
from p2p.wire.messages import LeaseRequest, PeerList
from tests.unit.backend.builders import (
    CHUNK_BYTES,
    ask,
    hello,
    holder,
    instance_core,
    lease_request,
    prompt,
)
from tests.unit.backend.shell import Shell

if TYPE_CHECKING:
    from p2p.backend.spreading import Spreading

KEYS = prompt(8)
HOT = HotLimits(least_bytes=2 * CHUNK_BYTES, long_s=0.0)
LIMITS = FetchLimits(window_bytes=CHUNK_BYTES)


def _shell(*fellows, least_bytes=HOT.least_bytes, **parts):
    """A holder of everything, whose earlier readers were the fellows; reads are held back."""
    hot = HotLimits(least_bytes=least_bytes, long_s=0.0)
    names = ("a", *fellows)
    cores = [instance_core(name, hot=hot) for name in names]
    own = instance_core("r", hot=hot)
    shell = Shell(cores, own=own, limits=LIMITS, holds_reads=True, **parts)
    shell.put(cores[0], KEYS)
    members = tuple(holder(name) for name in (*names, "r"))
    shell.own.membership.roster.take(PeerList(epoch=1, version=1, peers=members), shell.now_s)
    for name in fellows:
        ask(cores[0], hello(name), shell.now_s)
        ask(cores[0], lease_request(KEYS, instance=name), shell.now_s)
    return shell


def _wait(shell, seconds):
    for _ in range(round(seconds / 0.01)):
        shell.advance(0.01)


def _finish_all(shell, fetch):
    for _ in range(400):
        if fetch.outcome is not None:
            break
        for read in list(shell.reads):
            if read in shell.reads:
                shell.finish(read)
        shell.advance(0.01)
    for core in shell.holders:
        core.tick(shell.now_s + 5.0)  # the fellows' own leases are of no interest here


def test_a_full_lease_names_who_else_was_lent_the_same():
    shell = _shell("x")
    shell.fetch(KEYS, budget_s=10.0)
    assert shell.sent(LeaseRequest, to="x")


def test_what_is_read_in_a_moment_has_no_fellows():
    shell = _shell("x", least_bytes=100 * CHUNK_BYTES)
    shell.fetch(KEYS, budget_s=10.0)
    assert not shell.sent(LeaseRequest, to="x")


def test_a_fellow_lends_what_it_has_by_now_and_the_rest_comes_from_the_holder():
    shell = _shell("x")
    fetch = shell.fetch(KEYS, budget_s=10.0)
    fellow = shell.holders[1]
    shell.put(fellow, KEYS[5:])
    _wait(shell, 0.4)
    _finish_all(shell, fetch)
    assert shell.check_delivered(fetch, KEYS) == 8
    tallies = {source.instance: source.num_chunks for source in shell.outcome(fetch).sources}
    assert tallies["x"] > 0
    assert tallies["a"] > 0


def test_a_fellow_that_has_nothing_yet_is_asked_again_and_costs_nothing():
    shell = _shell("x")
    fetch = shell.fetch(KEYS, budget_s=10.0)
    _wait(shell, 1.0)
    assert 3 <= len(shell.sent(LeaseRequest, to="x")) <= 6
    _finish_all(shell, fetch)
    assert shell.check_delivered(fetch, KEYS) == 8


def test_a_silent_fellow_ends_nothing():
    shell = _shell("x", silent={"x"})
    fetch = shell.fetch(KEYS, budget_s=10.0)
    shell.advance(1.1)
    _finish_all(shell, fetch)
    assert shell.check_delivered(fetch, KEYS) == 8


def test_who_asks_here_for_what_is_fetched_here_is_a_fellow():
    shell = _shell()
    shell.holders.append(instance_core("y", hot=HOT))
    shell.cores["y"] = shell.holders[-1]
    members = tuple(holder(name) for name in ("a", "y", "r"))
    shell.own.membership.roster.take(PeerList(epoch=1, version=2, peers=members), shell.now_s)
    fetch = shell.fetch(KEYS, budget_s=10.0)
    assert not shell.sent(LeaseRequest, to="y")
    ask(shell.own, hello("y"), shell.now_s)
    ask(shell.own, lease_request(KEYS, instance="y"), shell.now_s)
    shell.finish(shell.reads[0])
    assert shell.sent(LeaseRequest, to="y")
    _finish_all(shell, fetch)


def test_leases_of_fellows_go_back():
    shell = _shell("x")
    fetch = shell.fetch(KEYS, budget_s=10.0)
    shell.put(shell.holders[1], KEYS[5:])
    _wait(shell, 0.4)
    _finish_all(shell, fetch)
    shell.check_nothing_left(fetch)


def test_readers_begin_at_different_places_and_go_back_to_order_in_time():
    starts = set()
    for name in ("r", "s", "t", "u"):
        hot = HotLimits(least_bytes=CHUNK_BYTES, long_s=0.0)
        core = instance_core("a", 64, hot=hot)
        shell = Shell([core], own=instance_core(name, 64, hot=hot), holds_reads=True)
        shell.put(core, prompt(32))
        fetch = shell.fetch(prompt(32), budget_s=8.0)
        spreading = fetch._borrowing.fellows.spreading
        assert not spreading.is_on(shell.now_s)  # nobody else reads
        spreading.has_fellows = True
        assert spreading.is_on(shell.now_s)
        assert not spreading.is_on(shell.now_s + 4.0)  # half of the budget is gone
        wanted = spreading.next_wanted()
        first = spreading.ordered(wanted)[0]
        starts.add(first.position)
    assert len(starts) >= 3


def _order_of(name, num_chunks):
    shell = Shell([instance_core("a", 64, hot=HOT)], own=instance_core(name, 64, hot=HOT))
    shell.put(shell.holders[0], prompt(num_chunks))
    shell.holds_reads = True
    spreading = shell.fetch(prompt(num_chunks), budget_s=8.0)._borrowing.fellows.spreading
    return [chunk.position for chunk in spreading.ordered(list(shell.reader.fetches[0]._chunks))]


def test_readers_that_want_the_same_few_chunks_take_different_ones():
    orders = [_order_of(f"r{number}", 32) for number in range(6)]
    for order in orders:
        assert sorted(order) == list(range(32))
    left = set(orders[0][24:])  # the others lack what the first one would take last
    nexts = [next(position for position in order if position in left) for order in orders]
    assert len(set(nexts)) >= 4  # going round, all would take the first of these eight


def test_what_the_fewest_lend_comes_first():
    hot = HotLimits(least_bytes=CHUNK_BYTES, long_s=0.0)
    core = instance_core("a", 64, hot=hot)
    shell = Shell([core], own=instance_core("r", 64, hot=hot), holds_reads=True)
    shell.put(core, prompt(32))
    fetch = shell.fetch(prompt(32), budget_s=8.0)
    spreading: Spreading = fetch._borrowing.fellows.spreading
    wanted = spreading.next_wanted()
    for chunk in wanted[1:]:
        chunk.holders = ["a", "x"]
    wanted[0].holders = ["a"]
    assert spreading.ordered(wanted)[0] is wanted[0]


def test_a_fellow_that_is_silent_for_a_while_is_not_left():
    shell = _shell("x", silent={"x"})
    fetch = shell.fetch(KEYS, budget_s=20.0)
    shell.put(shell.holders[1], KEYS[4:])
    _wait(shell, 1.2)
    assert not shell.own.counters["holder_left_peer_silent"]
    shell.silent.clear()
    for question in list(shell.unanswered):
        shell.answer(question)
    _wait(shell, 1.0)
    _finish_all(shell, fetch)
    assert {source.instance for source in shell.outcome(fetch).sources} == {"a", "x"}


def test_a_silent_fellow_on_which_chunks_depend_is_left():
    shell = _shell("x")
    fetch = shell.fetch(KEYS, budget_s=20.0)
    shell.put(shell.holders[1], KEYS[4:])
    _wait(shell, 0.4)
    shell.silent = {"a", "x"}
    shell.cores["x"].leases.expire(float("inf"))
    while fetch.outcome is None and shell.now_s < 115.0:
        for read in list(shell.reads):
            if read in shell.reads:
                shell.fail(read)
        shell.advance(0.01)
    assert shell.now_s < 110.0
    assert fetch.outcome is not None


def test_a_fellow_whose_link_broke_is_taken_back():
    shell = _shell("x")
    fetch = shell.fetch(KEYS, budget_s=20.0)
    shell.put(shell.holders[1], KEYS[2:])
    _wait(shell, 0.4)
    for read in [read for read in shell.reads if read.instance == "x"]:
        shell.fail(read)
    assert shell.own.counters["holder_left_read_failed"]
    _wait(shell, 1.0)
    _finish_all(shell, fetch)
    assert shell.check_delivered(fetch, KEYS) == 8
    assert "x" in {source.instance for source in shell.outcome(fetch).sources}
