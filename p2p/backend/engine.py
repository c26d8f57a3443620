"""The loop that carries out what fetches ask for. It takes no decision.

One thread at a time drives it: a caller that waits for its fetch drives it itself, so a small fetch
costs no hand-over between threads; otherwise a background thread does, for as long as there is
work. The drive lock passes the ownership of sockets and links from one to the next.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, assert_never

import zmq

from p2p.backend.actions import (
    Action,
    AskController,
    AskPeer,
    CancelRead,
    DropPeer,
    DropSocket,
    FetchOutcome,
    OpenLink,
    Read,
    ReadId,
    SourceTally,
    Tag,
    TellPeer,
    Verify,
)
from p2p.backend.dialer import Call, Dialer
from p2p.backend.engine_parts import EngineParts, FetchWatch, Ticket
from p2p.backend.handover import Handover
from p2p.backend.lane import LaneEvent, LinkLost, Quiesced
from p2p.backend.lanes import LaneParts, Lanes
from p2p.backend.links import Links, ReadEnd
from p2p.backend.peer_lines import PeerLines
from p2p.backend.trials import Path
from p2p.channel.channels import Reached
from p2p.errors import ClosedError, PeerUnreachableError
from p2p.keys import ChunkKey
from p2p.wire.contact_watch import Contact
from p2p.wire.decoders import CONTROLLER_REPLIES
from p2p.wire.requester import Requester
from p2p.wire.wakeup import Wakeup

if TYPE_CHECKING:
    from p2p.backend.links import Roots
    from p2p.wire.messages import Holder

logger = logging.getLogger(__name__)
_RETRY_S = 1.0  # a better channel is tried for so long; another one serves meanwhile
_INLINE_BYTES = 512 << 10  # a smaller read is over before a lane has woken up
_SPIN_S = 50e-6
_NAP_S = 100e-6
_QUARANTINE_POLL_S = 0.01
_LONGEST_WAIT_S = 1.0
_TAKE_OVER_S = 0.05  # who waited for a driver that left drives himself
_LOOK_S = 0.01
_STANDSTILL_S = 0.05
_CATCH_UP_MS = 5


class FetchEngine:
    """Sockets, links and threads around a `ReaderCore`."""

    def __init__(self, parts: EngineParts) -> None:
        self._parts = parts
        self._reader = parts.reader
        self._reader.is_watched = parts.observer is not None
        self._pairs = parts.pairs
        self._lock = parts.lock
        self._clock = parts.clock
        self._wakeup = Wakeup()
        self._poller = zmq.Poller()
        self._poller.register(self._wakeup, zmq.POLLIN)
        self._requester = Requester(parts.wire, parts.controller, CONTROLLER_REPLIES)
        self._poller.register(self._requester.socket, zmq.POLLIN)
        self._lines = PeerLines(parts.wire, self._poller)
        self._links = Links(parts.channels, parts.clock, parts.quarantine_s)
        self._lanes = Lanes(
            LaneParts(
                channels=parts.channels,
                pool=parts.pool,
                clock=parts.clock,
                quarantine_s=parts.quarantine_s,
                num_lanes=parts.num_lanes,
                wakeup=self._wakeup,
            )
        )
        self._dialer = Dialer(parts.channels, self._wakeup)
        self._roots: dict[ReadId, Roots] = {}
        self._todo: deque[Action] = deque()
        self._untold: deque[TellPeer] = deque()
        self._tickets: list[Ticket] = []
        self._drive_lock = threading.Lock()
        self._has_work = threading.Event()
        self._is_closing = False
        self._last_progress_s = 0.0
        self._due_s = 0.0
        self._must_look = False
        self._alive_s = 0.0
        self._thread = threading.Thread(target=self._run, name="p2p-fetch", daemon=True)
        self._thread.start()

    def submit(
        self,
        keys: Sequence[ChunkKey],
        tenant: str,
        budget_s: float,
        request_id: str,
        watch: FetchWatch | None = None,
    ) -> Ticket:
        """Starts a fetch. Somebody must drive it: `wait`, or `drive_in_background`.

        Raises:
            ArgumentError: as `ReaderCore.submit`.
            ClosedError: the engine is closed.
        """
        if self._is_closing:
            raise ClosedError("the backend is closed")
        with self._lock:
            fetch = self._reader.submit(
                keys, tenant, budget_s, self._clock(), request_id=request_id
            )
            ticket = Ticket(fetch, watch)
            self._tickets.append(ticket)
        return ticket

    def drive_in_background(self) -> None:
        """Makes the background thread, or whoever drives, see to what was submitted."""
        self._has_work.set()
        self._wakeup.ring()

    def wait(self, ticket: Ticket) -> FetchOutcome:
        """Drives until a fetch has its outcome, or waits while somebody else drives."""
        while (outcome := ticket.outcome) is None:
            if self._drive_lock.acquire(blocking=False):
                try:
                    self._drive(lambda: ticket.outcome is not None)
                finally:
                    self._drive_lock.release()
            else:
                self.drive_in_background()  # whoever drives may be about to leave
                ticket.done.wait(_TAKE_OVER_S)
        if not self._is_idle():
            self._has_work.set()
        return outcome

    def drain(self, deadline_s: float) -> Handover:
        """Gives what is here to peers; returns when that is over."""
        with self._lock:
            handover = self._reader.giving.drain(deadline_s, self._clock())
        self.nudge()
        while not self._is_closing and not self._is_given(handover):
            time.sleep(_LOOK_S)
        return handover

    def _is_given(self, handover: Handover) -> bool:
        with self._lock:
            return handover.is_over(self._clock())

    def nudge(self) -> None:
        """Makes whoever drives look at everything now: something has changed outside."""
        if self._is_closing:
            return
        self._must_look = True
        self.drive_in_background()

    def note_named(self, holders: "Sequence[Holder]") -> None:
        """The directory has named holders: there may be somebody to connect ahead. Any thread."""
        with self._lock:
            is_news = self._reader.note_named(holders)
        if is_news:
            self.nudge()

    def tidy(self) -> None:
        """Has somebody tell holders what nobody waits for, if a caller left that undone."""
        if self._untold:
            self.drive_in_background()

    def close(self) -> None:
        """Ends every fetch with what it has and closes sockets and links."""
        with self._lock:
            self._is_closing = True
            self._reader.close(self._clock())
        self.drive_in_background()
        self._thread.join()
        with self._drive_lock:
            self._settle_tickets()
            self._tell()
            self._dialer.close()
            self._lanes.close()
            self._links.close()
            self._lines.close()
            self._requester.close()
            self._wakeup.close()

    # ------------------------------------------------------------------ the loop

    def _run(self) -> None:
        try:
            while not self._is_closing:
                self._has_work.wait()
                self._has_work.clear()
                with self._drive_lock:
                    self._drive(self._is_idle)
                    self._tell()
        except Exception:
            logger.exception("the fetch thread ended; asynchronous fetches will not progress")
            raise

    def _is_idle(self) -> bool:
        with self._lock:
            return self._is_closing or self._reader.is_idle

    def _drive(self, is_over: Callable[[], bool]) -> None:
        self._last_progress_s = self._alive_s = self._clock()
        self._turn()
        while not is_over():
            ready = self._wait()
            self._take_messages(ready)
            self._turn()
        if self._reader.is_idle:
            self._due_s = float("inf")  # a new fetch is not due before it has been asked

    def _turn(self) -> None:
        """Reports what happened, passes time, and carries out what follows from that."""
        self._catch_up()
        self._take_events()
        if self._must_look or self._clock() >= self._due_s:
            self._must_look = False
            with self._lock:
                self._reader.on_time(self._clock())
        self._carry_out()
        self._settle_tickets()
        if self._reader.instance.has_late_answers:
            self._parts.on_late_answer()
            self._parts.on_commit()
        if self._reader.instance.has_bond_news:
            self._parts.on_commit()

    def _take_events(self) -> None:
        """Takes what links, lanes and the dialer have to tell."""
        for end in self._links.poll():
            self._on_read_end(end)
        for read_id in self._links.poll_given_up():
            self._on_quiesced(read_id)
        for instance in self._links.take_lost():
            self._on_link_lost(instance)
        for event in self._lanes.take():
            self._on_lane_event(event)
        for call in self._dialer.take():
            self._on_dialled(call)

    def _on_lane_event(self, event: LaneEvent) -> None:
        match event:
            case ReadEnd():
                self._on_read_end(event)
            case Quiesced():
                self._on_quiesced(event.read_id)
            case LinkLost():
                self._on_link_lost(event.instance)
            case _:
                assert_never(event)

    def _wait(self) -> dict[object, int]:
        """Sleeps until a message, an event or a deadline; naps while a read of its own goes on."""
        self._tell()
        with self._lock:
            deadline_s = self._reader.next_deadline_s()
        self._due_s = deadline_s if deadline_s is not None else float("inf")
        if self._links.num_reads:
            ready = dict(self._poller.poll(0))
            spun_s = self._clock() - self._last_progress_s
            if not ready and spun_s > _SPIN_S:
                time.sleep(_NAP_S)
            return ready
        began_s = self._clock()
        wait_s = min(_LONGEST_WAIT_S, max(0.0, self._due_s - began_s))
        if self._links.num_given_up:
            wait_s = min(wait_s, _QUARANTINE_POLL_S)
        ready = dict(self._poller.poll(int(wait_s * 1000) + 1))
        self._alive_s = min(self._clock(), began_s + wait_s)
        return ready

    def _catch_up(self) -> None:
        """After a standstill of the process, messages that came meanwhile go before the time.

        The threads that bring them stood still as well.
        """
        if self._clock() > self._alive_s + _STANDSTILL_S:
            self._take_messages(dict(self._poller.poll(_CATCH_UP_MS)))
        self._alive_s = self._clock()

    def _take_messages(self, ready: dict[object, int]) -> None:
        if self._wakeup.fileno() in ready:
            self._wakeup.clear()
        for holder, contact in self._lines.contacts(ready):
            with self._lock:
                self._on_contact(holder, contact)
        for peer_answer in self._lines.receive(ready):  # what can be read at once comes first
            with self._lock:
                tag = Tag(peer_answer.request_id)
                self._reader.on_peer(tag, peer_answer.message, self._clock())
            self._carry_out()
        if self._requester.socket in ready:
            for answer in self._requester.receive():
                with self._lock:
                    tag = Tag(answer.request_id)
                    self._reader.on_controller(tag, answer.message, self._clock())
                self._carry_out()

    def _on_contact(self, holder: "Holder", contact: Contact) -> None:
        match contact:
            case Contact.REACHED:
                self._reader.on_reached(holder)
            case Contact.REFUSED:
                self._reader.on_unreachable(holder, self._clock())
            case _:
                assert_never(contact)

    # ------------------------------------------------------------------ actions

    def _carry_out(self) -> None:
        self._take_actions()
        while self._todo:
            self._do(self._todo.popleft())
            self._take_actions()

    def _take_actions(self) -> None:
        if not self._reader.has_actions:
            return
        with self._lock:
            actions = self._reader.take_actions()
            phases = self._reader.take_phases()
        self._todo.extend(actions)
        for fetch, phase in phases:
            if self._parts.observer is not None:
                self._parts.observer.on_phase(phase.value, fetch.num_arrived, fetch.num_chunks)

    def _do(self, action: Action) -> None:
        match action:
            case AskController() | AskPeer() | TellPeer():
                self._send(action)
            case OpenLink():
                self._dial(action)
            case Read():
                self._read(action)
            case Verify():
                self._verify(action)
            case CancelRead():
                if not self._links.cancel(action.read_id):
                    self._lanes.cancel(action.read_id)
            case DropPeer() | DropSocket():
                self._drop(action)
            case _:
                assert_never(action)

    def _send(self, action: AskController | AskPeer | TellPeer) -> None:
        match action:
            case AskController():
                self._ask_controller(action)
            case AskPeer():
                self._lines.ask(action)
            case TellPeer():
                self._untold.append(action)
            case _:
                assert_never(action)

    def _drop(self, action: DropPeer | DropSocket) -> None:
        self._lines.drop(action.instance)
        if isinstance(action, DropPeer):
            self._links.drop(action.instance)
            self._lanes.drop(action.instance)

    def _tell(self) -> None:
        """Sends what nobody answers: while somebody waits for something else, not before."""
        while self._untold:
            self._lines.tell(self._untold.popleft())

    def _ask_controller(self, action: AskController) -> None:
        with self._lock:
            if self._reader.ask_mirror(action.tag, action.message, self._clock()):
                return
        try:
            self._requester.send(action.message, action.tag)
        except PeerUnreachableError as error:
            logger.warning("%s", error)
            with self._lock:
                self._reader.on_controller(action.tag, None, self._clock())

    def _read(self, action: Read) -> None:
        """Reads what is small at once, and hands what is large to a lane."""
        if self._pairs.is_retry_due(self._clock()):
            self._dial_again(action.instance)
        num_bytes = len(action.local) * self._parts.pool.slot_bytes
        if num_bytes > _INLINE_BYTES:
            self._lanes.submit(action, num_bytes)
            return
        end = self._links.submit(action)
        if end is not None:
            self._on_read_end(end)

    def _verify(self, action: Verify) -> None:
        """Hands over the digests that a lane has computed, or computes those of a small read."""
        roots = self._roots.pop(action.read_id, None)
        if roots is None:
            digest = self._parts.pool.digest
            pairs = zip(action.keys, action.slots, strict=True)
            roots = tuple((digest(key, slot),) for key, slot in pairs)
        with self._lock:
            self._reader.on_verified(action.read_id, roots, self._clock())
        for ticket in self._tickets:
            if ticket.watch is not None:
                ticket.watch.on_progress()

    def _on_read_end(self, end: ReadEnd) -> None:
        self._last_progress_s = end.ended_s
        with self._lock:
            if not end.problem:
                if self._reader.on_read_done(end.read_id, end.ended_s) and end.roots:
                    self._roots[end.read_id] = end.roots
                return
            is_stale = self._pairs.is_stale(end.failed)
            if end.is_quiet:
                self._reader.on_read_failed(
                    end.read_id, end.problem, end.ended_s, is_stale=is_stale
                )
            else:
                self._reader.on_read_broken(
                    end.read_id, end.problem, end.ended_s, is_stale=is_stale
                )
            if end.failed is not None:
                self._on_path_failed(end.failed, end)

    def _on_quiesced(self, read_id: ReadId) -> None:
        with self._lock:
            self._reader.on_quiesced(read_id)

    def _on_link_lost(self, instance: str) -> None:
        """A link of one thread is gone: all threads get a new one at the next contact."""
        self._links.drop(instance)
        self._lanes.drop(instance)
        with self._lock:
            self._reader.on_link_lost(instance)

    # ------------------------------------------------------------------ channels

    def _on_path_failed(self, path: Path, end: ReadEnd) -> None:
        name = path.instance
        has_other = self._pairs.on_failure(path, end.problem, end.ended_s)
        if has_other:
            self._reader.on_channel_failed(name)

    def _dial(self, action: OpenLink) -> None:
        """Has the channels tried that a holder has in common with us."""
        with self._lock:
            plan = self._pairs.plan(action.holder, action.welcome.ranks[0], self._clock())
        self._dialer.dial(action.holder, plan, action.timeout_s)

    def _dial_again(self, instance: str) -> None:
        """Has better channels tried once more; reads go on over the one that serves."""
        with self._lock:
            due = self._pairs.retry(instance, self._clock())
        if due is not None:
            self._dialer.dial(*due, _RETRY_S)

    def _on_dialled(self, call: Call) -> None:
        chosen = call.reached.channel if call.reached is not None else ""
        with self._lock:
            self._pairs.on_trials(call.holder, call.trials, chosen, self._clock())
            is_awaited = self._reader.awaits_link(call.holder)
            is_better = call.is_retry and self._reader.is_linked(call.holder)
        problem: str | None = call.problem
        if call.reached is not None and (is_awaited or is_better):
            problem = self._attach(call, call.reached)
        self._log_notes()
        if is_awaited:
            with self._lock:
                self._reader.on_link(call.holder, problem or None, self._clock())

    def _attach(self, call: Call, reached: Reached) -> str | None:
        """Connects every thread; returns what was wrong, or None."""
        problem = self._links.attach(reached)
        if problem is None:
            self._lanes.attach(reached)
            with self._lock:
                self._pairs.on_linked(call.holder, reached.channel, call.trials, self._clock())
        return problem

    def _log_notes(self) -> None:
        with self._lock:
            notes = self._pairs.take_notes()
        for note in notes:
            logger.log(logging.WARNING if note.is_warning else logging.INFO, "%s", note.text)

    def _settle_tickets(self) -> None:
        if all(ticket.outcome is None for ticket in self._tickets):
            return
        with self._lock:
            settled = [ticket for ticket in self._tickets if ticket.outcome is not None]
            self._tickets = [ticket for ticket in self._tickets if ticket.outcome is None]
        for ticket in settled:
            self._name_channels(ticket.fetch.outcome.sources if ticket.fetch.outcome else ())
            ticket.done.set()
            if ticket.watch is not None and ticket.outcome is not None:
                ticket.watch.on_done(ticket.outcome)
        self._parts.on_commit()

    def _name_channels(self, sources: Iterable[SourceTally]) -> None:
        """Says over what each source was read, and notes what that brought."""
        with self._lock:
            now_s = self._clock()
            for tally in sources:
                tally.channel, tally.transport = self._pairs.used(tally.instance)
                rate = self._reader.book.speeds.standing(tally.instance, now_s).bytes_per_s
                self._pairs.note_rate(tally.instance, rate, now_s)
            if self._pairs.rates.has_news:
                self._reader.instance.tell_rates(self._pairs.rates)
