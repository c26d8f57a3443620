"""Slots of a pool: every sequence of uses against a model, and moves that are refused."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from p2p.agent.slots import SlotState, SlotTable
from p2p.errors import ArgumentError

NUM_SLOTS = 6


class SlotMachine(RuleBasedStateMachine):
    """A model of three sets of slots, and how often each was taken."""

    def __init__(self):
        super().__init__()
        self.table = SlotTable(NUM_SLOTS)
        self.members: dict[SlotState, set[int]] = {state: set() for state in SlotState}
        self.members[SlotState.FREE] = set(range(NUM_SLOTS))
        self.num_taken = dict.fromkeys(range(NUM_SLOTS), 0)

    def _move(self, slot, old, new):
        self.members[old].remove(slot)
        self.members[new].add(slot)

    def _draw(self, data, state):
        return data.draw(st.sampled_from(sorted(self.members[state])))

    @rule(count=st.integers(0, NUM_SLOTS + 2))
    def acquire(self, count):
        slots = self.table.acquire(count)
        assert slots == sorted(self.members[SlotState.FREE])[:count]
        for slot in slots:
            self._move(slot, SlotState.FREE, SlotState.FILLING)
            self.num_taken[slot] += 1

    @precondition(lambda self: self.members[SlotState.FILLING])
    @rule(data=st.data())
    def commit(self, data):
        slot = self._draw(data, SlotState.FILLING)
        self.table.commit(slot)
        self._move(slot, SlotState.FILLING, SlotState.READY)

    @precondition(lambda self: self.members[SlotState.FILLING])
    @rule(data=st.data())
    def quarantine(self, data):
        slot = self._draw(data, SlotState.FILLING)
        self.table.quarantine(slot)
        self._move(slot, SlotState.FILLING, SlotState.QUARANTINED)

    @rule(data=st.data())
    def release(self, data):
        used = [state for state in SlotState if state is not SlotState.FREE and self.members[state]]
        if used:
            state = data.draw(st.sampled_from(used))
            slot = self._draw(data, state)
            self.table.release(slot)
            self._move(slot, state, SlotState.FREE)

    @rule(slot=st.integers(0, NUM_SLOTS - 1))
    def a_refused_move_changes_nothing(self, slot):
        refused = {
            SlotState.FREE: ["commit", "quarantine", "release"],
            SlotState.FILLING: [],
            SlotState.READY: ["commit", "quarantine"],
            SlotState.QUARANTINED: ["commit", "quarantine"],
        }
        state = next(state for state in SlotState if slot in self.members[state])
        for name in refused[state]:
            with pytest.raises(ArgumentError, match=f"is {state.name.lower()}, cannot become"):
                getattr(self.table, name)(slot)

    @invariant()
    def agrees_with_the_model(self):
        self.table.check_integrity()
        assert self.table.num_free == len(self.members[SlotState.FREE])
        for state in SlotState:
            assert self.table.count(state) == len(self.members[state])
        for slot, count in self.num_taken.items():
            assert self.table.generation(slot) == count


SlotMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSlotMachine = SlotMachine.TestCase


def test_low_slots_go_first_so_that_runs_stay_together():
    table = SlotTable(4)
    taken = table.acquire(4)
    for slot in (3, 0, 2):
        table.release(slot)
    assert taken == [0, 1, 2, 3]
    assert table.acquire(2) == [0, 2]


@pytest.mark.parametrize("num_slots", [0, -1])
def test_a_pool_without_slots_is_refused(num_slots):
    with pytest.raises(ArgumentError, match="num_slots"):
        SlotTable(num_slots)
