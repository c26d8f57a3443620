"""Stops a fetch in the middle of its transfer until the driver says go on.

The backend calls `on_phase` on the fetching thread and waits for it to return, so what the driver
does meanwhile (kill a holder) happens at exactly that point of the fetch, with no timer involved.
"""

from typing import Protocol

from examples.p2p_sharing.messages import AnyCommand, AnyEvent, Paused, Quit, Resume
from p2p.backend import Phase


class DriverLine(Protocol):
    """The line to the driver (`examples.p2p_sharing.port.Port`)."""

    def receive(self) -> AnyCommand:
        """Waits for the next command."""
        ...

    def send(self, event: AnyEvent) -> None:
        """Sends an event."""
        ...


class PauseHook:
    """The backend's observer. Does nothing until `arm` is called."""

    def __init__(self, port: DriverLine) -> None:
        self._port = port
        self._after_chunks = 0

    def arm(self, after_chunks: int) -> None:
        """Makes the next fetch pause once, with ``after_chunks`` chunks there; 0 disarms."""
        self._after_chunks = after_chunks

    def on_phase(self, phase: str, num_arrived: int, num_chunks: int) -> None:
        """Pauses if this is the point; see `p2p.backend` for the phases."""
        if phase != Phase.MID_TRANSFER.value or not 0 < self._after_chunks <= num_arrived:
            return
        self._after_chunks = 0
        self._port.send(Paused(num_arrived, num_chunks))
        command = self._port.receive()
        if not isinstance(command, Resume | Quit):
            raise TypeError(f"Paused is answered by Resume, not by {command!r}")
