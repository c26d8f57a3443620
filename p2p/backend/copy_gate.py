"""Whether an engine's paged cache may still be touched, and who is at it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from p2p.errors import ClosedError


class CopyGate:
    """Lets copies in until it is shut. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._num_inside = 0
        self._is_shut = False

    @contextmanager
    def passage(self) -> Iterator[None]:
        """Surrounds one copy.

        Raises:
            ClosedError: the gate is shut; nothing may be touched.
        """
        with self._changed:
            if self._is_shut:
                raise ClosedError("the paged cache was closed")
            self._num_inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_inside -= 1
                self._changed.notify_all()

    def shut(self) -> None:
        """Lets nobody in any more, and returns when everybody is out. Idempotent."""
        with self._changed:
            self._is_shut = True
            self._changed.wait_for(lambda: not self._num_inside)
