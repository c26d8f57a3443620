"""One transfer of the `tcp` channel: its parcels end one by one, on the threads of its streams."""

import threading

from p2p.channel.base import TransferState

_PAUSE_S = 50e-6


class TcpTransfer:
    """One submitted transfer; implements `p2p.channel.base.Transfer`.

    Args:
        num_parcels: that it consists of; without any it is done.
        is_read: else it writes.
    """

    __slots__ = (
        "_ended",
        "_is_complete",
        "_is_read",
        "_lock",
        "_num_left",
        "_reason",
        "_state",
    )

    def __init__(self, num_parcels: int, *, is_read: bool) -> None:
        self._is_read = is_read
        self._lock = threading.Lock()
        self._num_left = num_parcels
        self._reason = ""
        self._is_complete = not num_parcels
        self._state = TransferState.PENDING if num_parcels else TransferState.DONE
        self._ended = threading.Event()
        if not num_parcels:
            self._ended.set()

    def poll(self) -> TransferState:
        """Returns the state. Waits up to 50 µs for one in flight, so that its threads can go on."""
        if self._state is TransferState.PENDING:
            self._ended.wait(_PAUSE_S)
        return self._state

    def error(self) -> str:
        """Returns why it failed, or an empty string."""
        return self._reason if self._state is TransferState.FAILED else ""

    def cancel(self) -> None:
        """Gives it up; what was asked for still lands, until its link is closed or fenced."""
        with self._lock:
            if self._state is TransferState.PENDING:
                self._state = TransferState.CANCELLED

    def quiesced(self) -> bool:
        """Returns true once no thread touches memory for it; may wait up to 50 µs."""
        return self._ended.wait(_PAUSE_S)

    def settled(self) -> bool:
        """Returns true once the peer's memory is out of reach too."""
        return self.quiesced() and (self._is_complete or self._is_read)

    def has_ended(self) -> bool:
        """Returns whether it has quiesced; never waits."""
        return self._ended.is_set()

    def is_given_up(self) -> bool:
        """Returns whether it was cancelled and has not quiesced; never waits."""
        return self._state is TransferState.CANCELLED and not self._ended.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Waits until it has quiesced, so long at most; returns whether it has."""
        return self._ended.wait(timeout_s)

    def end_parcel(self, problem: str) -> None:
        """Takes the end of one of its parcels, from any thread; an empty problem is none."""
        with self._lock:
            self._reason = self._reason or problem
            self._num_left -= 1
            if self._num_left:
                return
            self._is_complete = not self._reason
            if self._state is TransferState.PENDING:
                self._state = TransferState.FAILED if self._reason else TransferState.DONE
            self._ended.set()
