"""Which holder serves which run."""

import pytest

from p2p.backend.plan import Place, PlanLimits, View, plan_runs, pull_s
from p2p.backend.speeds import Standing
from p2p.wire.messages import HolderRun, Located
from tests.unit.backend.builders import holder

READER = Place("r", "host-r", "rack-r")
LIMITS = PlanLimits(stripe_bytes=100, max_stripes=3)


def _view(usable=lambda _: True, reader=READER, standings=None):
    known = standings or {}
    return View(
        reader=reader,
        chunk_bytes=100,
        is_usable=usable,
        standing=lambda name: known.get(name, Standing()),
    )


def _plan(holders, runs=((0, 10, None),), offset=0, limits=LIMITS, **view):
    everybody = tuple(range(len(holders)))
    located = Located(
        epoch=1,
        holders=tuple(holders),
        runs=tuple(
            HolderRun(start=start, count=count, holders=everybody if which is None else which)
            for start, count, which in runs
        ),
    )
    return plan_runs(located, offset, _view(**view), limits)


def _names(run):
    return [chosen.instance for chosen in run.holders]


def test_near_holders_come_before_far_ones_and_idle_ones_before_busy_ones():
    holders = [
        holder("far"),
        holder("rack", rack="rack-r"),
        holder("busy", host="host-r", load_bytes=9),
        holder("near", host="host-r"),
        holder("other", host="host-x", rack="rack-x", load_bytes=1),
    ]
    (run,) = _plan(holders)
    assert _names(run) == ["near", "busy", "rack", "far", "other"]


def test_holders_without_a_name_of_host_or_rack_are_far():
    (run,) = _plan([holder("a"), holder("b", rack="r")], reader=Place("r", "", "r"))
    assert _names(run) == ["b", "a"]


def test_equal_holders_are_taken_in_an_order_that_differs_between_readers():
    holders = [holder(name) for name in "abcd"]
    firsts = {_names(_plan(holders, reader=Place(f"r{n}", "", ""))[0])[0] for n in range(40)}
    assert firsts == set("abcd")


def test_the_reader_itself_and_those_that_must_not_be_asked_are_left_out():
    (run,) = _plan(
        [holder("r"), holder("down"), holder("a")], usable=lambda h: h.instance != "down"
    )
    assert _names(run) == ["a"]


@pytest.mark.parametrize(("count", "width"), [(1, 1), (2, 2), (3, 3), (10, 3)])
def test_a_run_is_spread_by_its_bytes_up_to_a_limit(count, width):
    (run,) = _plan([holder(name) for name in "abcd"], runs=((0, count, None),))
    assert run.width == width


def test_a_run_is_spread_over_no_more_holders_than_it_has():
    (run,) = _plan([holder("a"), holder("b")])
    assert run.width == 2


def test_positions_count_from_the_offset():
    runs = _plan([holder("a"), holder("b")], runs=((0, 2, (0,)), (2, 3, (1,))), offset=5)
    assert [(run.start, run.count, _names(run)) for run in runs] == [(5, 2, ["a"]), (7, 3, ["b"])]


def test_a_run_of_nobody_usable_ends_the_prefix():
    runs = _plan(
        [holder("a"), holder("down")],
        runs=((0, 2, (0,)), (2, 3, (1,)), (5, 1, (0,))),
        usable=lambda h: h.instance != "down",
    )
    assert (runs[1].holders, runs[1].width) == ((), 0)


def test_a_number_that_names_no_holder_is_passed_over():
    (run,) = _plan([holder("a")], runs=((0, 1, (7, 0, -1)),))
    assert _names(run) == ["a"]


def test_a_faster_link_comes_first_even_from_farther_away():
    standings = {"near": Standing(bytes_per_s=1e8), "far": Standing(bytes_per_s=1e9)}
    (run,) = _plan([holder("near", host="host-r"), holder("far")], standings=standings)
    assert _names(run) == ["far", "near"]


def test_bytes_under_way_and_refusals_push_a_holder_back():
    rate = 1e9
    standings = {
        "loaded": Standing(rate, in_flight=10_000),
        "refusing": Standing(rate, refusals=20.0),
        "idle": Standing(rate),
    }
    (run,) = _plan([holder("loaded"), holder("refusing"), holder("idle")], standings=standings)
    assert _names(run)[0] == "idle"


def test_small_differences_do_not_send_every_reader_to_the_same_holder():
    standings = {"a": Standing(1.00e9), "b": Standing(1.05e9), "c": Standing(0.97e9)}
    readers = [Place(f"r{number}", "", "") for number in range(40)]
    holders = [holder(name) for name in "abc"]
    plans = [_plan(holders, reader=reader, standings=standings) for reader in readers]
    assert {_names(run)[0] for (run,) in plans} == set("abc")


def test_a_slow_holder_is_an_alternate_where_it_would_add_nothing():
    standings = {"a": Standing(1e9), "b": Standing(5e8), "slow": Standing(1e7)}
    (run,) = _plan([holder(name) for name in ("slow", "a", "b")], standings=standings)
    assert _names(run) == ["a", "b", "slow"]
    assert run.width == 2


def test_two_holders_on_the_readers_host_share_its_memory():
    (run,) = _plan([holder("a", host="host-r"), holder("b", host="host-r"), holder("far")])
    assert run.width == 1


def test_the_time_of_a_plan_is_the_sum_of_its_runs():
    standings = {"a": Standing(1e4), "b": Standing(3e4), "c": Standing(1e3)}
    runs = _plan(
        [holder("a"), holder("b"), holder("c")],
        runs=((0, 4, (0, 1)), (4, 2, (2,))),
        standings=standings,
    )
    assert pull_s(runs, _view(standings=standings)) == pytest.approx(0.002 + 400 / 4e4 + 0.2)


def test_the_time_of_a_plan_is_unknown_while_a_serving_holder_is():
    standings = {"a": Standing(1e4)}
    view = _view(standings=standings)
    runs = _plan([holder("a"), holder("b")], standings=standings)
    assert pull_s(runs, view) is None
    (run,) = _plan([holder("a"), holder("b")], runs=((0, 1, None),), standings=standings)
    assert [h.instance for h in run.holders[: run.width]] == ["b"]  # the guess says it is faster
    assert pull_s([run], view) is None
