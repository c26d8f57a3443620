"""Wakes a thread that waits in a poller, from any other thread or a signal handler."""

import os
import threading


class Wakeup:
    """A descriptor that becomes readable.

    Whoever rings and whoever closes may be different threads in any order: a ring after the end is
    nothing, and never reaches a descriptor that was given to somebody else meanwhile.
    """

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.RLock()  # a signal may interrupt the thread that holds it
        self._is_closed = False
        self._is_rung = False

    def fileno(self) -> int:
        """Returns the descriptor, to be polled for input."""
        return self._fd

    def ring(self) -> None:
        """Makes the descriptor readable. Any thread; after `close` nothing happens.

        Costs next to nothing where it is readable already: who clears it looks after that.
        """
        with self._lock:
            if not self._is_closed and not self._is_rung:
                self._is_rung = True
                os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        """Makes it unreadable until the next ring; only after it was readable."""
        with self._lock:
            os.eventfd_read(self._fd)
            self._is_rung = False

    def close(self) -> None:
        """Gives the descriptor back. Idempotent."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                os.close(self._fd)
