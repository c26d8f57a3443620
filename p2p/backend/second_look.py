"""When a fetch that has lost its holders asks the directory once more.

A holder that answers a second late, or whose link broke once, is alive: what it was left for may be
over in a moment. No I/O, no clock, no threads.
"""

from p2p.backend.actions import ShortReason
from p2p.backend.fetch_context import FetchContext

_LOST_HOLDER = frozenset(
    {
        ShortReason.PEER_SILENT,
        ShortReason.LINK_FAILED,
        ShortReason.LINK_SLOW,
        ShortReason.READ_FAILED,
        ShortReason.READ_STALLED,
        ShortReason.LEASE_LOST,
        ShortReason.EVICTED,
    }
)
_PAUSES_S = (0.1, 0.2, 0.2)  # before each look, without an arrival between them
_LOOKS_IF_EVICTED = 1  # by then the directory has heard of it
_LAST_QUARTER = 0.25  # of the budget: nobody waits for another look then


class SecondLook:
    """The further looks of one fetch into the directory.

    Attributes:
        due_s: when the next one is due; None if none is.
    """

    def __init__(self, context: FetchContext) -> None:
        self.due_s: float | None = None
        self._context = context
        self._num_looks = 0
        self._arrived_s = context.arrived_s

    def is_awaited(self, now_s: float) -> bool:
        """Returns whether a fetch with nothing left to do waits for another look.

        Call it once the next chunk of the prefix is lost.
        """
        if self.due_s is not None:
            return True
        context = self._context
        if context.arrived_s > self._arrived_s:
            self._arrived_s = context.arrived_s
            self._num_looks = 0
        if self._num_looks >= self._looks_max:
            return False
        due_s = now_s + _PAUSES_S[self._num_looks]
        least_left_s = max(context.limits.look_left_s, context.budget_s * _LAST_QUARTER)
        if context.deadline_s - due_s < least_left_s:
            return False
        self._num_looks += 1
        self.due_s = due_s
        return True

    def is_due(self, now_s: float) -> bool:
        """Returns whether it is time to look."""
        return self.due_s is not None and now_s >= self.due_s

    def begin(self) -> tuple[ShortReason, str]:
        """The directory is being asked; returns why it is."""
        self.due_s = None
        chunk = self._context.chunks[self._context.chunks.end]
        return chunk.reason, chunk.detail

    @property
    def _looks_max(self) -> int:
        """How often the directory may be asked for the first chunk that is lost."""
        chunks = self._context.chunks
        if chunks.end == len(chunks) or chunks[chunks.end].reason not in _LOST_HOLDER:
            return 0
        if chunks[chunks.end].reason is ShortReason.EVICTED:
            return _LOOKS_IF_EVICTED
        return len(_PAUSES_S)
