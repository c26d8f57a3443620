"""An instance's end of the line to the driver: JSON lines over its standard input and output.

Libraries print to standard output too, so it is taken away from them first: from then on
everything but events goes to standard error.
"""

import os
import sys

import msgspec

from examples.p2p_sharing.messages import AnyCommand, AnyEvent, Quit


class Port:
    """Reads commands and writes events. Any thread, one at a time."""

    def __init__(self) -> None:
        self._output_fd = os.dup(1)
        os.dup2(2, 1)
        self._decoder = msgspec.json.Decoder(AnyCommand)

    def receive(self) -> AnyCommand:
        """Waits for the next command; a driver that is gone says `Quit`.

        Raises:
            msgspec.DecodeError: the line is no command.
        """
        line = sys.stdin.buffer.readline()
        return self._decoder.decode(line) if line else Quit()

    def send(self, event: AnyEvent) -> None:
        """Sends an event; a driver that is gone misses it."""
        rest = memoryview(msgspec.json.encode(event) + b"\n")
        try:
            while rest:
                rest = rest[os.write(self._output_fd, rest) :]
        except BrokenPipeError:
            return
