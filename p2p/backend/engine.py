"""The loop that carries out what fetches ask for. It takes no decision.

One thread at a time drives it: a caller that waits for its fetch drives it itself, so a small fetch
costs no hand-over between threads; otherwise a background thread does, for as long as there is
work. The drive lock passes the ownership of sockets and links from one to the next.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, assert_never

import zmq

from p2p.backend.actions import (
    AskController,
    AskPeer,
    CancelRead,
    DropPeer,
    FetchOutcome,
    OpenLink,
    Read,
    Tag,
    TellPeer,
    Verify,
)
from p2p.backend.fetch import Fetch
from p2p.backend.peer_links import PeerLinks, ReadEnd
from p2p.backend.pool import Pool
from p2p.backend.reader import ReaderCore
from p2p.backend.verifier import Verdict, Verifier
from p2p.channel.base import Channel
from p2p.errors import ClosedError, PeerUnreachableError
from p2p.keys import ChunkKey
from p2p.wire.context import WireContext
from p2p.wire.decoders import CONTROLLER_REPLIES
from p2p.wire.requester import Requester

logger = logging.getLogger(__name__)
_Queued = AskController | AskPeer | TellPeer | OpenLink | DropPeer | Read | CancelRead
_SPIN_S = 50e-6
_NAP_S = 100e-6
_QUARANTINE_POLL_S = 0.01
_LONGEST_WAIT_S = 1.0
_TAKE_OVER_S = 0.05  # who waited for a driver that left drives himself


class Observer(Protocol):
    """Watches fetches; called on the driving thread, which waits for it."""

    def on_phase(self, phase: str, num_arrived: int, num_chunks: int) -> None:
        """A fetch reached a phase (`Phase`), with so many of its chunks arrived."""
        ...


class _NoObserver:
    def on_phase(self, phase: str, num_arrived: int, num_chunks: int) -> None:
        """Does nothing."""


@dataclass(frozen=True)
class EngineParts:
    """What an engine works with.

    Attributes:
        reader: decides.
        lock: held for every use of the reader and of the instance behind it.
        wire: makes sockets.
        controller: its address.
        channel: makes links.
        pool: where chunks land.
        clock: of the reader.
        quarantine_s: a given-up read that has not quiesced by then is fenced.
        on_commit: called after chunks were committed: there are events to send.
        observer: watches fetches.
    """

    reader: ReaderCore
    lock: threading.RLock
    wire: WireContext
    controller: str
    channel: Channel
    pool: Pool
    clock: Callable[[], float]
    quarantine_s: float
    on_commit: Callable[[], None]
    observer: Observer = field(default_factory=_NoObserver)


@dataclass(slots=True, eq=False)
class Ticket:
    """One fetch as its caller sees it."""

    fetch: Fetch
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def outcome(self) -> FetchOutcome | None:
        """The outcome, once it is there."""
        return self.fetch.outcome


class FetchEngine:
    """Sockets, links and threads around a `ReaderCore`."""

    def __init__(self, parts: EngineParts) -> None:
        self._parts = parts
        self._reader = parts.reader
        self._lock = parts.lock
        self._clock = parts.clock
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poller = zmq.Poller()
        self._poller.register(self._wake_fd, zmq.POLLIN)
        self._requester = Requester(parts.wire, parts.controller, CONTROLLER_REPLIES)
        self._poller.register(self._requester.socket, zmq.POLLIN)
        self.links = PeerLinks(
            parts.wire, parts.channel, self._poller, parts.clock, parts.quarantine_s
        )
        self._verifier = Verifier(parts.pool, self._wake_fd)
        self._todo: deque[_Queued] = deque()
        self._tickets: list[Ticket] = []
        self._drive_lock = threading.Lock()
        self._has_work = threading.Event()
        self._is_closing = False
        self._last_progress_s = 0.0
        self._thread = threading.Thread(target=self._run, name="p2p-fetch", daemon=True)
        self._thread.start()

    def submit(self, keys: Sequence[ChunkKey], tenant: str, budget_s: float) -> Ticket:
        """Starts a fetch. Somebody must drive it: `wait`, or `drive_in_background`.

        Raises:
            ArgumentError: as `ReaderCore.submit`.
            ClosedError: the engine is closed.
        """
        if self._is_closing:
            raise ClosedError("the backend is closed")
        with self._lock:
            ticket = Ticket(self._reader.submit(keys, tenant, budget_s, self._clock()))
            self._tickets.append(ticket)
        return ticket

    def drive_in_background(self) -> None:
        """Makes the background thread, or whoever drives, see to what was submitted."""
        self._has_work.set()
        os.eventfd_write(self._wake_fd, 1)

    def wait(self, ticket: Ticket) -> FetchOutcome:
        """Drives until a fetch has its outcome, or waits while somebody else drives."""
        while (outcome := ticket.outcome) is None:
            if self._drive_lock.acquire(blocking=False):
                try:
                    self._drive(lambda: ticket.outcome is not None)
                finally:
                    self._drive_lock.release()
            else:
                os.eventfd_write(self._wake_fd, 1)
                ticket.done.wait(_TAKE_OVER_S)
        if not self._is_idle():
            self._has_work.set()
        return outcome

    def close(self) -> None:
        """Ends every fetch with what it has and closes sockets and links."""
        with self._lock:
            self._is_closing = True
            self._reader.close(self._clock())
        self.drive_in_background()
        self._thread.join()
        with self._drive_lock:
            self._settle_tickets()
            self._verifier.close()
            self.links.close()
            self._requester.close()
            os.close(self._wake_fd)

    # ------------------------------------------------------------------ the loop

    def _run(self) -> None:
        try:
            while not self._is_closing:
                self._has_work.wait()
                self._has_work.clear()
                with self._drive_lock:
                    self._drive(self._is_idle)
        except Exception:
            logger.exception("the fetch thread ended; asynchronous fetches will not progress")
            raise

    def _is_idle(self) -> bool:
        with self._lock:
            return self._is_closing or not self._reader.fetches

    def _drive(self, is_over: Callable[[], bool]) -> None:
        self._last_progress_s = self._clock()
        self._turn()
        while not is_over():
            ready = self._wait()
            self._take_messages(ready)
            self._turn()

    def _turn(self) -> None:
        """Reports what happened, passes time, and carries out what follows from that."""
        for end in self.links.poll_reads():
            self._on_read_end(end)
        self._take_verdicts()
        for read_id in self.links.poll_given_up():
            with self._lock:
                self._reader.on_quiesced(read_id)
        with self._lock:
            self._reader.on_time(self._clock())
        self._carry_out()
        self._settle_tickets()

    def _wait(self) -> dict[object, int]:
        """Sleeps until a message, a verdict or a deadline; naps while reads are under way."""
        if self.links.num_reads:
            ready = dict(self._poller.poll(0))
            spun_s = self._clock() - self._last_progress_s
            if not ready and spun_s > _SPIN_S:
                time.sleep(_NAP_S)
            return ready
        with self._lock:
            deadline_s = self._reader.next_deadline_s()
        wait_s = _LONGEST_WAIT_S
        if deadline_s is not None:
            wait_s = min(wait_s, max(0.0, deadline_s - self._clock()))
        if self.links.num_given_up:
            wait_s = min(wait_s, _QUARANTINE_POLL_S)
        return dict(self._poller.poll(int(wait_s * 1000) + 1))

    def _take_messages(self, ready: dict[object, int]) -> None:
        if self._wake_fd in ready:
            os.eventfd_read(self._wake_fd)
        if self._requester.socket in ready:
            for answer in self._requester.receive():
                with self._lock:
                    tag = Tag(answer.request_id)
                    self._reader.on_controller(tag, answer.message, self._clock())
                self._carry_out()
        for peer_answer in self.links.receive(ready):
            with self._lock:
                tag = Tag(peer_answer.request_id)
                self._reader.on_peer(tag, peer_answer.message, self._clock())
            self._carry_out()

    # ------------------------------------------------------------------ actions

    def _carry_out(self) -> None:
        self._take_actions()
        while self._todo:
            self._do(self._todo.popleft())
            self._take_verdicts()
            self._take_actions()

    def _take_verdicts(self) -> None:
        for verdict in self._verifier.take():
            self._on_verdict(verdict)

    def _take_actions(self) -> None:
        with self._lock:
            actions = self._reader.take_actions()
            phases = self._reader.take_phases()
        for action in actions:
            if isinstance(action, Verify):  # at once: the next reads copy meanwhile
                self._verifier.submit(action)
            else:
                self._todo.append(action)
        for fetch, phase in phases:
            self._parts.observer.on_phase(phase.value, fetch.num_arrived, fetch.num_chunks)

    def _do(self, action: _Queued) -> None:
        match action:
            case AskController() | AskPeer() | TellPeer():
                self._send(action)
            case OpenLink():
                problem = self.links.open_link(action)
                with self._lock:
                    self._reader.on_link(action.holder.instance, problem, self._clock())
            case Read():
                end = self.links.submit(action)  # may copy inside the call: look at the clock after
                if end is not None:
                    self._on_read_end(end)
                with self._lock:
                    self._reader.on_time(self._clock())
            case CancelRead():
                self.links.cancel(action.read_id)
            case DropPeer():
                self.links.drop(action.instance)
            case _:
                assert_never(action)

    def _send(self, action: AskController | AskPeer | TellPeer) -> None:
        match action:
            case AskController():
                self._ask_controller(action)
            case AskPeer():
                self.links.ask(action)
            case TellPeer():
                self.links.tell(action)
            case _:
                assert_never(action)

    def _ask_controller(self, action: AskController) -> None:
        try:
            self._requester.send(action.message, action.tag)
        except PeerUnreachableError as error:
            logger.warning("%s", error)
            with self._lock:
                self._reader.on_controller(action.tag, None, self._clock())

    def _on_verdict(self, verdict: Verdict) -> None:
        self._last_progress_s = self._clock()
        with self._lock:
            self._reader.on_verified(verdict.read_id, verdict.roots, self._clock())

    def _on_read_end(self, end: ReadEnd) -> None:
        now_s = self._clock()
        self._last_progress_s = now_s
        with self._lock:
            if not end.problem:
                self._reader.on_read_done(end.read_id, now_s)
            elif end.is_quiet:
                self._reader.on_read_failed(end.read_id, end.problem, now_s)
            else:
                self._reader.on_read_broken(end.read_id, end.problem, now_s)

    def _settle_tickets(self) -> None:
        with self._lock:
            settled = [ticket for ticket in self._tickets if ticket.outcome is not None]
            if not settled:
                return
            self._tickets = [ticket for ticket in self._tickets if ticket.outcome is None]
        for ticket in settled:
            for tally in ticket.fetch.outcome.sources if ticket.fetch.outcome else ():
                tally.channel = self._parts.channel.offer().channel
                tally.transport = self.links.transport(tally.instance)
            ticket.done.set()
        self._parts.on_commit()
