"""Large messages wait for the small ones: what makes a lookup quick while snapshots come in.

A ROUTER takes messages from its peers in turn, so without this every lookup would wait for a page
of somebody's snapshot. A large one is put aside, with everything else about its sender's entries
that comes behind it: the order within a feed stays. No I/O, no clock.
"""

from collections import Counter, deque

from p2p.wire.exchange import Sender
from p2p.wire.messages import (
    ControllerRequest,
    Deregister,
    Events,
    Heartbeat,
    Register,
    SnapshotPage,
)

_LARGE_KEYS = 256
_MAX_WAITING = 512


class Backlog:
    """What is put aside, first come, first served."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Sender, ControllerRequest]] = deque()
        self._num_by_route: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """True if so much waits that something must be done first."""
        return len(self._waiting) >= _MAX_WAITING

    def takes(self, sender: Sender, message: ControllerRequest) -> bool:
        """Puts a message aside and returns True, if it may not be handled at once."""
        if not isinstance(message, Events | SnapshotPage | Heartbeat | Register | Deregister):
            return False
        is_large = isinstance(message, Events | SnapshotPage) and len(message.kinds) >= _LARGE_KEYS
        if not is_large and sender.route not in self._num_by_route:
            return False
        self._waiting.append((sender, message))
        self._num_by_route[sender.route] += 1
        return True

    def next(self) -> tuple[Sender, ControllerRequest]:
        """Takes out what has waited longest."""
        sender, message = self._waiting.popleft()
        self._num_by_route[sender.route] -= 1
        if not self._num_by_route[sender.route]:
            del self._num_by_route[sender.route]
        return sender, message
