"""Drives staged copies: gives them slots in turn, and lets each take what its stages have done.

The loop around `SlotRing` and `StagedCopy`. One thread at a time calls a pump; it takes no
decision, and while nothing moves it naps.
"""

import time
from collections.abc import Callable, Sequence

from p2p.channel.base import TransferState
from p2p.channel.staging.copy import StagedCopy
from p2p.channel.staging.ring import SlotRing, WaiterId
from p2p.channel.staging.stages import Stage

_NAP_S = 50e-6


class StagingPump:
    """Copies that share one ring.

    Args:
        ring: their slots.
        clock: monotonic, in seconds.
    """

    def __init__(self, ring: SlotRing, clock: Callable[[], float] = time.monotonic) -> None:
        self.ring = ring
        self._clock = clock
        self._copies: dict[WaiterId, StagedCopy] = {}
        self._num_copies = 0

    @property
    def num_copies(self) -> int:
        """Copies that are under way, or whose slots are in quarantine."""
        return len(self._copies)

    def submit(self, stages: Sequence[Stage], num_pieces: int) -> StagedCopy:
        """Starts a copy; `progress` or `wait` moves it on.

        Raises:
            ArgumentError: fewer than two stages, or no piece.
        """
        self._num_copies += 1
        copy = StagedCopy(self.ring, WaiterId(self._num_copies), stages, num_pieces)
        self._copies[copy.waiter] = copy
        self.progress()
        return copy

    def progress(self) -> int:
        """Moves on whatever can be moved on; returns how many steps that were. Never blocks."""
        num_steps = 0
        for copy in list(self._copies.values()):
            num_steps += copy.advance()
            if copy.is_over:
                del self._copies[copy.waiter]
        for granted in self.ring.take_granted():
            self._copies[granted.waiter].begin(granted.claim)
            num_steps += 1
        return num_steps

    def wait(self, copy: StagedCopy, deadline_s: float) -> TransferState:
        """Drives all copies until one has ended; gives that one up at the deadline."""
        while copy.state is TransferState.PENDING:
            if self._clock() >= deadline_s:
                copy.cancel()
            elif not self.progress():
                time.sleep(_NAP_S)
        self.progress()
        return copy.state

    def wait_quiet(self, deadline_s: float) -> bool:
        """Drives until no slot is touched any more; returns whether that came in time."""
        while self._copies and self._clock() < deadline_s:
            if not self.progress():
                time.sleep(_NAP_S)
        return not self._copies
