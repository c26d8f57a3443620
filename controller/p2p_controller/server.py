"""The controller's process around its core: one socket, one thread, a clock. Decides nothing."""

import logging
import os
import time
from collections.abc import Iterable

from p2p.wire.context import WireContext
from p2p.wire.curve import load_keys
from p2p.wire.decoders import CONTROLLER_REQUESTS
from p2p.wire.exchange import Outgoing, Sender
from p2p.wire.messages import ControllerRequest, GetStatus
from p2p.wire.responder import Responder
from p2p_controller.core import ControllerCore
from p2p_controller.settings import ControllerSettings

logger = logging.getLogger(__name__)
_MAX_WAIT_S = 0.5
_MAX_GAP_S = 2.0


class ListeningClock:
    """Time during which this process could have heard somebody.

    While a process is stopped, nobody is heard, and nobody is to blame for it: without this, a
    controller that was suspended for a minute would wake up and forget everyone.
    """

    def __init__(self) -> None:
        self._last_s = time.monotonic()
        self._lost_s = 0.0

    def now_s(self) -> float:
        """Returns the time; must be called at least every two seconds."""
        now_s = time.monotonic()
        gap_s = now_s - self._last_s
        if gap_s > _MAX_GAP_S:
            self._lost_s += gap_s
            logger.warning("this process stood still for %.1f s", gap_s)
        self._last_s = now_s
        return now_s - self._lost_s


class ControllerServer:
    """A controller that is bound to its address.

    Args:
        settings: how it runs.

    Attributes:
        address: what was bound, with the real port.
        core: what decides.

    Raises:
        ConfigError: the address is malformed or in use, or a key file is missing.
    """

    def __init__(self, settings: ControllerSettings) -> None:
        keys = load_keys(settings.keys_dir, settings.key_name) if settings.keys_dir else None
        self.core = ControllerCore(settings, new_epoch())
        self._clock = ListeningClock()
        self._is_stopped = False
        self._has_served = False
        self._wire = WireContext(keys)
        try:
            self._responder: Responder[ControllerRequest] = Responder(
                self._wire, settings.bind, CONTROLLER_REQUESTS, "controller.bind"
            )
        except BaseException:
            self._wire.close()
            raise
        self.address = self._responder.address

    def serve(self) -> None:
        """Answers until `stop`, or until somebody asks for the end. Blocks."""
        logger.info("controller of epoch %d serves %s", self.core.epoch, self.address)
        self._has_served = True
        try:
            self._responder.serve(self)
        finally:
            self._wire.close()
        logger.info("controller of epoch %d has ended", self.core.epoch)

    def stop(self) -> None:
        """Makes `serve` end soon. May be called from any thread or a signal handler."""
        self._is_stopped = True
        self._responder.wake()

    def close(self) -> None:
        """Gives the address back, if `serve` never ran."""
        if not self._has_served:
            self._responder.close()
            self._wire.close()

    def handle(self, sender: Sender, message: ControllerRequest) -> Iterable[Outgoing]:
        """Passes a message to the core, and what was dropped before it."""
        if isinstance(message, GetStatus):
            for kind, number in self._responder.dropped.items():
                self.core.count(f"dropped_{kind}", number)
        return self.core.handle(sender, message, self._clock.now_s())

    def tick(self) -> Iterable[Outgoing]:
        """Passes the time to the core, and ends the loop when all is said."""
        now_s = self._clock.now_s()
        if self._is_stopped or self.core.is_shutting_down:
            self._responder.stop()
            return self.core.shut_down(now_s)
        return self.core.tick(now_s)

    def wait_s(self) -> float:
        """Returns the time until the core's next deadline."""
        now_s = self._clock.now_s()
        return min(self.core.next_deadline_s(now_s) - now_s, _MAX_WAIT_S)


def new_epoch() -> int:
    """Returns a number that no start before had: milliseconds since 1970, and 16 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    return milliseconds << 16 | int.from_bytes(os.urandom(2), "little")
