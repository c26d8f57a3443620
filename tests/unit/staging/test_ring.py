"""The slots of a ring, against a model that remembers every claim that was ever made."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from p2p.channel.staging import Claim, SlotPhase, SlotRing, WaiterId
from p2p.errors import ArgumentError

_STEPS = {
    "fill": ({SlotPhase.FILLING}, SlotPhase.READY),
    "send": ({SlotPhase.READY}, SlotPhase.IN_FLIGHT),
    "finish": ({SlotPhase.IN_FLIGHT}, SlotPhase.FREE),
    "abandon": ({SlotPhase.FILLING, SlotPhase.READY}, SlotPhase.FREE),
    "quarantine": ({SlotPhase.FILLING, SlotPhase.IN_FLIGHT}, SlotPhase.QUARANTINED),
    "confirm": ({SlotPhase.QUARANTINED}, SlotPhase.FREE),
}


class RingMachine(RuleBasedStateMachine):
    """Claims live on in the bundle, so that steps come late, and come for reused slots."""

    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.ring = SlotRing(1)
        self.queue: list[int] = []
        self.held: dict[Claim, SlotPhase] = {}
        self.seen: set[Claim] = set()
        self.num_late = 0

    @initialize(num_slots=st.integers(1, 4))
    def build(self, num_slots):
        self.ring = SlotRing(num_slots)

    @rule(waiter=st.integers(0, 5))
    def ask(self, waiter):
        if waiter in self.queue:
            with pytest.raises(ArgumentError, match="waits for a slot already"):
                self.ring.ask(WaiterId(waiter))
        else:
            self.ring.ask(WaiterId(waiter))
            self.queue.append(waiter)

    @rule(waiter=st.integers(0, 5))
    def withdraw(self, waiter):
        self.ring.withdraw(WaiterId(waiter))
        if waiter in self.queue:
            self.queue.remove(waiter)

    @rule(target=claims)
    def take(self):
        num_due = min(self.ring.num_slots - len(self.held), len(self.queue))
        granted = self.ring.take_granted()
        assert [grant.waiter for grant in granted] == self.queue[:num_due]
        del self.queue[:num_due]
        for grant in granted:
            assert grant.claim not in self.seen
            assert grant.claim.slot not in {claim.slot for claim in self.held}
            self.held[grant.claim] = SlotPhase.FILLING
            self.seen.add(grant.claim)
        return multiple(*(grant.claim for grant in granted))

    @rule(claim=claims, name=st.sampled_from(sorted(_STEPS)))
    def step(self, claim, name):
        allowed, phase = _STEPS[name]
        take_step = getattr(self.ring, name)
        if claim not in self.held:
            self.num_late += 1
            assert take_step(claim) is False
        elif self.held[claim] not in allowed:
            with pytest.raises(ArgumentError, match=f"slot = {claim.slot}: is "):
                take_step(claim)
        else:
            assert take_step(claim) is True
            self.held[claim] = phase
            if phase is SlotPhase.FREE:
                del self.held[claim]

    @invariant()
    def agrees(self):
        self.ring.check_integrity()
        assert self.ring.num_waiting == len(self.queue)
        assert self.ring.num_free == self.ring.num_slots - len(self.held)
        assert self.ring.num_late == self.num_late
        for phase in list(SlotPhase)[1:]:
            assert self.ring.count(phase) == list(self.held.values()).count(phase)
        for claim, phase in self.held.items():
            assert self.ring.phase(claim) is phase


def test_the_ring_against_its_model():
    run_state_machine_as_test(RingMachine, settings=settings(max_examples=150, deadline=None))


def claim_of(ring: SlotRing, waiter: int) -> Claim:
    ring.ask(WaiterId(waiter))
    (granted,) = ring.take_granted()
    return granted.claim


def test_a_late_completion_cannot_free_a_reused_slot():
    ring = SlotRing(1)
    old = claim_of(ring, 1)
    ring.fill(old)
    ring.send(old)
    ring.quarantine(old)
    ring.confirm(old)
    new = claim_of(ring, 2)
    assert (new.slot, new.generation) == (old.slot, old.generation + 1)
    assert not ring.finish(old)
    assert not ring.confirm(old)
    assert ring.phase(new) is SlotPhase.FILLING
    assert ring.phase(old) is None
    assert ring.num_late == 2


def test_a_full_ring_makes_everybody_wait_in_turn():
    ring = SlotRing(1)
    first = claim_of(ring, 1)
    for waiter in (2, 3, 4):
        ring.ask(WaiterId(waiter))
    assert ring.take_granted() == []
    ring.withdraw(WaiterId(3))
    ring.abandon(first)
    (second,) = ring.take_granted()
    assert second.waiter == 2
    ring.abandon(second.claim)
    assert [grant.waiter for grant in ring.take_granted()] == [4]


def test_a_slot_in_quarantine_is_nobodys():
    ring = SlotRing(1)
    claim = claim_of(ring, 1)
    ring.quarantine(claim)
    ring.ask(WaiterId(2))
    assert ring.take_granted() == []
    assert ring.confirm(claim)
    assert len(ring.take_granted()) == 1


def test_what_cannot_be_is_refused():
    with pytest.raises(ArgumentError, match="num_slots = 0"):
        SlotRing(0)
    ring = SlotRing(1)
    with pytest.raises(ArgumentError, match="slot was taken 0 times"):
        ring.fill(Claim(0, 1))
    with pytest.raises(ArgumentError, match="a ring of 1 slots"):
        ring.fill(Claim(1, 1))
