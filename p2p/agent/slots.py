"""The slots of a pool: who may write into which, and how often each was reused.

A slot is free, filling (somebody writes into it), ready (its bytes are an indexed chunk), or in
quarantine (a transfer that was given up may still write into it). No I/O, no clock, no threads.
"""

import heapq
from collections import Counter
from enum import IntEnum

from p2p.errors import ArgumentError


class SlotState(IntEnum):
    """What a slot is used for. Numbers, since states are compared once or twice a chunk."""

    FREE = 0
    FILLING = 1
    READY = 2
    QUARANTINED = 3


_NEXT: tuple[tuple[SlotState, ...], ...] = (
    (SlotState.FILLING,),
    (SlotState.READY, SlotState.FREE, SlotState.QUARANTINED),
    (SlotState.FREE,),
    (SlotState.FREE,),
)


class SlotTable:
    """States and generations of all slots of a pool.

    Args:
        num_slots: slots, at least one.
    """

    def __init__(self, num_slots: int) -> None:
        if num_slots < 1:
            raise ArgumentError("num_slots", num_slots, "a pool has at least one slot")
        self.num_slots = num_slots
        self._states = [SlotState.FREE] * num_slots
        self._generations = [0] * num_slots
        self._free = list(range(num_slots))  # a heap: low slots first keeps runs together
        self._counts = [num_slots, 0, 0, 0]  # by state

    @property
    def num_free(self) -> int:
        """Slots that `acquire` could return now."""
        return len(self._free)

    def acquire(self, count: int) -> list[int]:
        """Returns up to ``count`` slots for filling, each with a new generation."""
        slots = [heapq.heappop(self._free) for _ in range(min(count, len(self._free)))]
        for slot in slots:
            self._move(slot, SlotState.FILLING)
            self._generations[slot] += 1
        return slots

    def commit(self, slot: int) -> None:
        """Filled: the slot now holds a chunk."""
        self._move(slot, SlotState.READY)

    def release(self, slot: int) -> None:
        """Nobody can touch the slot any more: it may be reused."""
        self._move(slot, SlotState.FREE)
        heapq.heappush(self._free, slot)

    def quarantine(self, slot: int) -> None:
        """A given-up transfer may still write: the slot stays out of use until `release`."""
        self._move(slot, SlotState.QUARANTINED)

    def generation(self, slot: int) -> int:
        """Returns how often the slot was acquired."""
        return self._generations[slot]

    def count(self, state: SlotState) -> int:
        """Returns how many slots are in a state."""
        return self._counts[state]

    def check_integrity(self) -> None:
        """Raises `AssertionError` if the counts or the free list disagree with the states."""
        real = Counter(self._states)
        if [real[state] for state in SlotState] != self._counts:
            raise AssertionError(f"slot counts {self._counts} do not match the states")
        free = {slot for slot, state in enumerate(self._states) if state is SlotState.FREE}
        if set(self._free) != free or len(self._free) != len(free):
            raise AssertionError("the free list does not match the states")

    def _move(self, slot: int, state: SlotState) -> None:
        current = self._states[slot]
        if state not in _NEXT[current]:
            reason = f"is {current.name.lower()}, cannot become {state.name.lower()}"
            raise ArgumentError("slot", slot, reason)
        self._states[slot] = state
        self._counts[current] -= 1
        self._counts[state] += 1
