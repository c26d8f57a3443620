"""The controller's process around its core: one socket, one thread, a clock. Decides nothing.

HTTP, where it is on, has a thread of its own and asks over ZMQ like anybody else.
"""

import logging
import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from p2p.errors import ConfigError
from p2p.wire.context import WireContext
from p2p.wire.curve import CurveKeys, load_keys
from p2p.wire.decoders import CONTROLLER_REQUESTS
from p2p.wire.exchange import Outgoing, Sender
from p2p.wire.messages import ControllerRequest, GetStatus, Locate
from p2p.wire.responder import Responder
from p2p_controller.backlog import Backlog
from p2p_controller.core import ControllerCore
from p2p_controller.settings import ControllerSettings

if TYPE_CHECKING:
    from p2p_controller.http.front import HttpFront

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
        ConfigError: an address is malformed or in use, a key file or the extra is missing.
    """

    def __init__(self, settings: ControllerSettings) -> None:
        keys = load_keys(settings.keys_dir, settings.key_name) if settings.keys_dir else None
        self.core = ControllerCore(settings, new_epoch())
        self._times = self.core.times
        self._clock = ListeningClock()
        self._backlog = Backlog()
        self._is_stopped = False
        self._has_served = False
        self._http: HttpFront | None = None
        self._wire = WireContext(keys)
        try:
            self._responder: Responder[ControllerRequest] = Responder(
                self._wire, settings.bind, CONTROLLER_REQUESTS, "controller.bind"
            )
        except BaseException:
            self._wire.close()
            raise
        self.address = self._responder.address
        try:
            self._http = _http_front(settings, self.address, keys)
        except BaseException:
            self.close()
            raise

    @property
    def http_address(self) -> str:
        """URL of the HTTP side with the real port; empty if it is off."""
        return "" if self._http is None else self._http.address

    def serve(self) -> None:
        """Answers until `stop`, or until somebody asks for the end. Blocks."""
        logger.info("controller of epoch %d serves %s", self.core.epoch, self.address)
        self._has_served = True
        if self._http is not None:
            self._http.start()
        try:
            self._responder.serve(self)
        finally:
            if self._http is not None:
                self._http.stop()
            self._wire.close()
        logger.info("controller of epoch %d has ended", self.core.epoch)

    def stop(self) -> None:
        """Makes `serve` end soon. May be called from any thread or a signal handler."""
        self._is_stopped = True
        self._responder.wake()

    def close(self) -> None:
        """Gives the address back, if `serve` never ran."""
        if not self._has_served:
            if self._http is not None:
                self._http.close()
            self._responder.close()
            self._wire.close()

    def handle(self, sender: Sender, message: ControllerRequest) -> Iterable[Outgoing]:
        """Passes a message to the core, or puts it aside until the smaller ones are answered."""
        if type(message) is not Locate and self._backlog.takes(sender, message):
            return self._next_waiting() if self._backlog.is_full else ()
        return self._handle_now(sender, message)

    def tick(self) -> Iterable[Outgoing]:
        """Passes the time to the core, and ends the loop when all is said."""
        now_s = self._clock.now_s()
        if self._is_stopped or self.core.is_shutting_down:
            self._responder.stop()
            return self.core.shut_down(now_s)
        outgoing = self.core.tick(now_s)
        return [*outgoing, *self._next_waiting()] if self._backlog else outgoing

    def wait_s(self) -> float:
        """Returns the time until the core's next deadline."""
        if self._backlog:
            return 0.0
        now_s = self._clock.now_s()
        return min(self.core.next_deadline_s(now_s) - now_s, _MAX_WAIT_S)

    def _handle_now(self, sender: Sender, message: ControllerRequest) -> list[Outgoing]:
        """Passes a message to the core with what the shell counted; times some of them."""
        if isinstance(message, GetStatus):
            self._count_what_happened()
        kind = type(message)
        if not self._times.count(kind):
            return self.core.handle(sender, message, self._clock.now_s())
        start_ns = time.perf_counter_ns()
        outgoing = self.core.handle(sender, message, self._clock.now_s())
        self._times.note(kind, time.perf_counter_ns() - start_ns)
        return outgoing

    def _next_waiting(self) -> list[Outgoing]:
        return self._handle_now(*self._backlog.next())

    def _count_what_happened(self) -> None:
        for kind, number in self._responder.dropped.items():
            self.core.count(f"dropped_{kind}", number)
        if self._http is not None:
            self.core.count("http_ended", self._http.num_ended)


def _http_front(
    settings: ControllerSettings, controller: str, keys: CurveKeys | None
) -> "HttpFront | None":
    if not settings.http:
        return None
    try:
        from p2p_controller.http.front import HttpFront  # noqa: PLC0415
    except ImportError as error:
        reason = f"{error}; HTTP is in the extra: pip install 'p2p-kv[controller]'"
        raise ConfigError("controller.http", settings.http, reason) from error
    return HttpFront(settings, controller, keys)


def new_epoch() -> int:
    """Returns a number that no start before had: milliseconds since 1970, and 16 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    return milliseconds << 16 | int.from_bytes(os.urandom(2), "little")
