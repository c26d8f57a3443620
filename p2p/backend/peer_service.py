"""The thread that answers peers: receives, asks the core under its lock, sends."""

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from p2p.backend.instance import InstanceCore
from p2p.backend.pool import PoolMemory
from p2p.backend.store import Suspect
from p2p.wire.context import WireContext
from p2p.wire.decoders import PEER_REQUESTS
from p2p.wire.exchange import Outgoing, Sender
from p2p.wire.messages import Diagnose, PeerCall
from p2p.wire.responder import Responder

logger = logging.getLogger(__name__)
_LONGEST_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Whom the service calls, from its thread.

    Attributes:
        on_plea: the reading half has work.
        on_diagnose: somebody asks what was found here; the answer comes late.
    """

    on_plea: Callable[[], None]
    on_diagnose: Callable[[Sender], None]


class PeerService:
    """Serves one instance's peers, from a thread of its own.

    Args:
        wire: makes the socket.
        bind: where to listen.

    Raises:
        ConfigError: the address is malformed or in use.
    """

    def __init__(self, wire: WireContext, bind: str) -> None:
        self._responder = Responder(wire, bind, PEER_REQUESTS, key="backend.bind")
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """What was bound, with the real port."""
        return self._responder.address

    @property
    def dropped(self) -> dict[str, int]:
        """Messages that were no messages of ours, by kind."""
        return dict(self._responder.dropped)

    def wake(self) -> None:
        """There may be answers to send that were not due before. Any thread."""
        self._responder.wake()

    def start(
        self,
        core: InstanceCore,
        pool: PoolMemory,
        lock: threading.RLock,
        clock: Callable[[], float],
        callbacks: "Callbacks",
    ) -> None:
        """Starts answering."""
        answers = _Answers(core, pool, lock, clock, callbacks)
        self._thread = threading.Thread(
            target=self._run, args=(answers,), name="p2p-peers", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stops answering and waits for the thread."""
        self._responder.stop()
        if self._thread is not None:
            self._thread.join()
        else:
            self._responder.close()

    def _run(self, answers: "_Answers") -> None:
        try:
            self._responder.serve(answers)
        except Exception:
            logger.exception(
                "%s: the peer service ended; peers will miss this instance", self.address
            )
            raise


class _Answers:
    """The core as a responder's service."""

    def __init__(
        self,
        core: InstanceCore,
        pool: PoolMemory,
        lock: threading.RLock,
        clock: Callable[[], float],
        callbacks: "Callbacks",
    ) -> None:
        self._callbacks = callbacks
        self._core = core
        self._pool = pool
        self._lock = lock
        self._clock = clock

    def handle(self, sender: Sender, message: PeerCall) -> Iterable[Outgoing]:
        """Returns the core's answer; what is found on the machine takes longer."""
        if isinstance(message, Diagnose):
            self._callbacks.on_diagnose(sender)
            return []
        with self._lock:
            return self._core.handle(sender, message, self._clock())

    def tick(self) -> Iterable[Outgoing]:
        """Ends leases whose time is over, and looks after reported chunks."""
        with self._lock:
            self._core.tick(self._clock())
            suspects = self._core.take_suspects()
            late = self._core.take_late_answers()
        if self._core.wants_reader:
            self._callbacks.on_plea()
        for suspect in suspects:
            self._examine(suspect)
        return late

    def wait_s(self) -> float:
        """Returns the time until the next lease ends."""
        with self._lock:
            deadline_s = self._core.leases.next_deadline_s()
        if deadline_s is None:
            return _LONGEST_WAIT_S
        return min(max(0.0, deadline_s - self._clock()) + 0.001, _LONGEST_WAIT_S)

    def _examine(self, suspect: Suspect) -> None:
        """Computes a suspect's digest again, with the chunk pinned, and drops a damaged one."""
        with self._lock:
            entry = self._core.pin_suspect(suspect)
        if entry is None:
            return
        found = self._pool.digest(entry.key, entry.slot)
        with self._lock:
            dropped = self._core.judge_suspect(entry, (found,))
        if dropped:
            logger.error(
                "chunk %s in slot %d is damaged and was dropped", entry.key.hex(), entry.slot
            )
