"""The order of members, and the choice of holders that is remembered for a moment."""

from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.group import AGE_STEP_S
from tests.unit.controller.instances import Controller

REPORTS = st.lists(
    st.tuples(st.integers(0, 29), st.integers(0, 3), st.sampled_from([0.0, 0.25])), max_size=60
)


@given(REPORTS, st.sets(st.integers(0, 29), min_size=1))
@settings(max_examples=60, deadline=None)
def test_the_best_holders_are_those_of_a_sorted_list_at_any_time(reports, holding):
    controller = Controller()
    members = [
        controller.joined(f"i{number:02}", *([1] if number in holding else [0]))
        for number in range(30)
    ]
    rank = dict.fromkeys(range(30), (0, -controller.now_s))
    for number, load, pause_s in reports:
        controller.now_s += pause_s / 10
        controller.send(members[number].heartbeat(load_bytes=load))
        rank[number] = (load, -controller.now_s)
        best = sorted(holding, key=lambda n: (*rank[n], n))
        assert controller.runs(1)[0][2] == [f"i{n:02}" for n in best[:8]]
        assert controller.locate(1).runs[0].more == max(0, len(best) - 8)


def test_an_age_is_right_to_within_a_step():
    controller = Controller()
    controller.joined("p", 1)
    for _ in range(40):
        controller.now_s += 0.013
        (holder,) = controller.locate(1).holders
        true_age_s = controller.now_s - 1000.0
        assert true_age_s - AGE_STEP_S - 0.001 <= holder.age_ms / 1000 <= true_age_s


def test_what_is_remembered_is_forgotten_with_its_holder():
    controller = Controller()
    p, _q = controller.joined("p", 1, 2), controller.joined("q", 1)
    assert controller.runs(1, 2) == [(0, 1, ["p", "q"]), (1, 1, ["p"])]
    controller.send(p.deregister())
    assert controller.runs(1, 2) == [(0, 1, ["q"])]
    controller.joined("p", 2, incarnation=2, address="tcp://10.0.0.7:1")
    assert controller.runs(1, 2) == [(0, 1, ["q"]), (1, 1, ["p"])]
    assert controller.locate(1, 2).holders[1].incarnation == 2
