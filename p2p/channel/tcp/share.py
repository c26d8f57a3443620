"""How a holder's bandwidth is shared: readers that take at the same time get equal parts.

Without a limit TCP shares by itself, stream by stream. A state machine: no clock, no sleep. Used
under a lock by threads that send.
"""

from dataclasses import dataclass

_ACTIVE_S = 0.2  # a reader that asked for nothing for so long takes no part
_AHEAD_S = 0.01  # so much may be sent at once


@dataclass(slots=True)
class _Reader:
    due_s: float
    seen_s: float


class BandwidthShare:
    """Says when each reader's next piece may be sent.

    Args:
        bytes_per_s: of all readers together; 0 is no limit.
    """

    def __init__(self, bytes_per_s: int) -> None:
        self._bytes_per_s = bytes_per_s
        self._readers: dict[bytes, _Reader] = {}

    @property
    def piece_bytes(self) -> int:
        """Returns the largest piece that keeps the pace even; 0 is no limit."""
        return max(4096, int(self._bytes_per_s * _AHEAD_S)) if self._bytes_per_s else 0

    def delay_s(self, reader: bytes, num_bytes: int, now_s: float) -> float:
        """Returns how long a piece must wait, which counts as sent after that.

        Args:
            reader: whose it is, over all of its streams.
            num_bytes: of the piece.
            now_s: a clock's.
        """
        if not self._bytes_per_s:
            return 0.0
        self._readers = {
            name: other
            for name, other in self._readers.items()
            if other.seen_s > now_s - _ACTIVE_S or other.due_s > now_s
        }
        entry = self._readers.setdefault(reader, _Reader(now_s, now_s))
        entry.seen_s = now_s
        start_s = max(entry.due_s, now_s)
        entry.due_s = start_s + num_bytes * len(self._readers) / self._bytes_per_s
        return max(0.0, start_s - now_s - _AHEAD_S)
