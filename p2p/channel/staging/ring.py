"""The slots of a staging ring: who has which, and who waits. No I/O, no clock, no threads.

A slot is free, filling (the first stage writes into it), ready, in flight (the other stages read
from it), or in quarantine: work that failed or was given up may still touch it, so it is free only
once the transport has confirmed. Every use of a slot has a generation of its own; what comes late
for an earlier one changes nothing. Who finds no free slot waits his turn: a ring never grows.
"""

from collections import Counter, deque
from dataclasses import dataclass
from enum import IntEnum
from typing import NewType

from p2p.errors import ArgumentError

WaiterId = NewType("WaiterId", int)


class SlotPhase(IntEnum):
    """What a slot is used for."""

    FREE = 0
    FILLING = 1
    READY = 2
    IN_FLIGHT = 3
    QUARANTINED = 4


@dataclass(frozen=True, slots=True)
class Claim:
    """One use of a slot.

    Attributes:
        slot: its number.
        generation: how often it was taken, this time included.
    """

    slot: int
    generation: int


@dataclass(frozen=True, slots=True)
class Granted:
    """A slot for somebody who has waited."""

    waiter: WaiterId
    claim: Claim


class SlotRing:
    """Slots, and a queue for them.

    Each step of a claim returns whether it was still current; a step that a current claim cannot
    take is an error of the caller.

    Args:
        num_slots: slots, at least one.

    Attributes:
        num_late: steps that came for an earlier use of their slot.

    Raises:
        ArgumentError: there is no slot.
    """

    def __init__(self, num_slots: int) -> None:
        if num_slots < 1:
            raise ArgumentError("num_slots", num_slots, "a ring has at least one slot")
        self.num_slots = num_slots
        self.num_late = 0
        self._phases = [SlotPhase.FREE] * num_slots
        self._generations = [0] * num_slots
        self._free = deque(range(num_slots))
        self._waiting: deque[WaiterId] = deque()

    @property
    def num_free(self) -> int:
        """Slots that nobody has."""
        return len(self._free)

    @property
    def num_waiting(self) -> int:
        """Who waits for one."""
        return len(self._waiting)

    def count(self, phase: SlotPhase) -> int:
        """Returns how many slots are in a phase."""
        return self._phases.count(phase)

    def phase(self, claim: Claim) -> SlotPhase | None:
        """Returns the phase of a claim's slot; None once the claim is over."""
        self._check_slot(claim)
        is_current = self._generations[claim.slot] == claim.generation
        return self._phases[claim.slot] if is_current else None

    # ------------------------------------------------------------------ the queue

    def ask(self, waiter: WaiterId) -> None:
        """Puts somebody at the end of the queue; `take_granted` names him when it is his turn.

        Raises:
            ArgumentError: he is in the queue already.
        """
        if waiter in self._waiting:
            raise ArgumentError("waiter", waiter, "waits for a slot already")
        self._waiting.append(waiter)

    def withdraw(self, waiter: WaiterId) -> None:
        """Takes somebody out of the queue, if he is in it."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)

    def take_granted(self) -> list[Granted]:
        """Gives free slots to those who have waited longest; they are filling from now on."""
        granted = []
        while self._free and self._waiting:
            slot = self._free.popleft()
            self._phases[slot] = SlotPhase.FILLING
            self._generations[slot] += 1
            claim = Claim(slot, self._generations[slot])
            granted.append(Granted(self._waiting.popleft(), claim))
        return granted

    # ------------------------------------------------------------------ the way of a slot

    def fill(self, claim: Claim) -> bool:
        """Filled: the slot is ready."""
        return self._step(claim, (SlotPhase.FILLING,), SlotPhase.READY)

    def send(self, claim: Claim) -> bool:
        """The next stage has begun: the slot is in flight."""
        return self._step(claim, (SlotPhase.READY,), SlotPhase.IN_FLIGHT)

    def finish(self, claim: Claim) -> bool:
        """The last stage has ended: the slot is free."""
        return self._step(claim, (SlotPhase.IN_FLIGHT,), SlotPhase.FREE)

    def abandon(self, claim: Claim) -> bool:
        """Given up while nobody touches the slot: it is free."""
        return self._step(claim, (SlotPhase.FILLING, SlotPhase.READY), SlotPhase.FREE)

    def quarantine(self, claim: Claim) -> bool:
        """Given up while somebody may still touch the slot."""
        phases = (SlotPhase.FILLING, SlotPhase.IN_FLIGHT)
        return self._step(claim, phases, SlotPhase.QUARANTINED)

    def confirm(self, claim: Claim) -> bool:
        """Nobody can touch the given-up slot any more: it is free."""
        return self._step(claim, (SlotPhase.QUARANTINED,), SlotPhase.FREE)

    def check_integrity(self) -> None:
        """Raises `AssertionError` if the free slots and the phases contradict each other."""
        free = [slot for slot, phase in enumerate(self._phases) if phase is SlotPhase.FREE]
        if Counter(free) != Counter(self._free):
            raise AssertionError(f"free slots {sorted(self._free)}, by their phases {free}")

    def _step(self, claim: Claim, allowed: tuple[SlotPhase, ...], phase: SlotPhase) -> bool:
        current = self.phase(claim)
        if current is None or current is SlotPhase.FREE:
            self.num_late += 1
            return False
        if current not in allowed:
            reason = f"is {current.name.lower()}, cannot become {phase.name.lower()}"
            raise ArgumentError("slot", claim.slot, reason)
        self._phases[claim.slot] = phase
        if phase is SlotPhase.FREE:
            self._free.append(claim.slot)
        return True

    def _check_slot(self, claim: Claim) -> None:
        if not 0 <= claim.slot < self.num_slots or claim.generation < 1:
            raise ArgumentError("claim", claim, f"a ring of {self.num_slots} slots")
        if claim.generation > self._generations[claim.slot]:
            reason = f"the slot was taken {self._generations[claim.slot]} times"
            raise ArgumentError("claim", claim, reason)
