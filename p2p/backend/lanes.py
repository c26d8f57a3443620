"""Threads that read and verify at the same time, each over reading agents of its own.

A same-host copy occupies a processor, and so does a digest; on one thread they add up. While one
lane computes digests, which holds the interpreter lock, others copy, which does not. No decisions.
"""

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import assert_never

from p2p.backend.actions import CancelRead, DropPeer, Read, ReadId
from p2p.backend.lane import Lane, LaneEvent, Quiesced
from p2p.backend.links import Links, ReadEnd
from p2p.backend.pool import PoolMemory
from p2p.channel.channels import Channels, Reached
from p2p.wire.wakeup import Wakeup

logger = logging.getLogger(__name__)
_NAP_S = 100e-6
_NAP_SHARE = 1 / 32  # of the time in which nothing ended: slow links are looked at less often
_NAP_MAX_S = 1e-3
_QUARANTINE_POLL_S = 0.01


@dataclass(frozen=True)
class LaneParts:
    """What lanes work with.

    Attributes:
        channels: siblings of them are read through.
        pool: where chunks land.
        clock: in seconds.
        quarantine_s: a given-up read that has not quiesced by then is fenced.
        num_lanes: threads.
        wakeup: rung when an event is there.
    """

    channels: Channels
    pool: PoolMemory
    clock: Callable[[], float]
    quarantine_s: float
    num_lanes: int
    wakeup: Wakeup


@dataclass(frozen=True, slots=True)
class _Attach:
    reached: Reached


_Order = _Attach | Read | CancelRead | DropPeer


class Lanes:
    """All lanes of one instance. A thread starts with its first read."""

    def __init__(self, parts: LaneParts) -> None:
        self._events: deque[LaneEvent] = deque()
        self._cancelled: set[ReadId] = set()
        self._threads = [
            _LaneThread(number, parts, self._events, self._cancelled)
            for number in range(parts.num_lanes)
        ]
        self._by_read: dict[ReadId, tuple[_LaneThread, int]] = {}
        self._reached: dict[str, Reached] = {}

    def attach(self, reached: Reached) -> None:
        """Connects every lane to a holder that answered."""
        self._reached[reached.peer] = reached
        self._tell_all(_Attach(reached))

    def submit(self, action: Read, num_bytes: int) -> None:
        """Starts a read on the lane with the least to do."""
        thread = min(self._threads, key=lambda thread: thread.num_bytes)
        if not thread.is_started:
            thread.start(self._reached.values())
        thread.num_bytes += num_bytes
        self._by_read[action.read_id] = (thread, num_bytes)
        thread.orders.put(action)

    def cancel(self, read_id: ReadId) -> None:
        """Gives a read up, if it is one of ours; `Quiesced` or its end follows."""
        thread, _ = self._by_read.get(read_id, (None, 0))
        if thread is not None:
            self._cancelled.add(read_id)
            thread.orders.put(CancelRead(read_id))

    def drop(self, instance: str) -> None:
        """Closes the links to a holder."""
        self._reached.pop(instance, None)
        self._tell_all(DropPeer(instance))

    def take(self) -> list[LaneEvent]:
        """Returns what happened since the last call."""
        if not self._events:
            return []
        events: list[LaneEvent] = []
        while self._events:
            event = self._events.popleft()
            if isinstance(event, Quiesced) or (isinstance(event, ReadEnd) and event.is_quiet):
                thread, num_bytes = self._by_read.pop(event.read_id)
                thread.num_bytes -= num_bytes
                self._cancelled.discard(event.read_id)
            events.append(event)
        return events

    def close(self) -> None:
        """Ends the threads and closes their channels; what is in flight is torn down."""
        for thread in self._threads:
            thread.stop()

    def _tell_all(self, order: _Attach | DropPeer) -> None:
        for thread in self._threads:
            if thread.is_started:
                thread.orders.put(order)


class _LaneThread:
    """One thread around a `Lane`.

    Attributes:
        orders: what it is to do.
        num_bytes: of its reads that have not quiesced.
        is_started: it runs, or ran.
    """

    def __init__(
        self,
        number: int,
        parts: LaneParts,
        events: deque[LaneEvent],
        cancelled: set[ReadId],
    ) -> None:
        self.orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self.num_bytes = 0
        self.is_started = False
        self._parts = parts
        self._events = events
        self._cancelled = cancelled
        self._thread = threading.Thread(target=self._run, name=f"p2p-lane-{number}", daemon=True)

    def start(self, known: Iterable[Reached]) -> None:
        """Starts the thread, connected to those that answered earlier."""
        self.is_started = True
        for reached in known:
            self.orders.put(_Attach(reached))
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        if self.is_started:
            self.orders.put(None)
            self._thread.join()

    def _run(self) -> None:
        parts = self._parts
        try:
            channels = parts.channels.sibling()
            try:
                links = Links(channels, parts.clock, parts.quarantine_s)
                self._serve(Lane(links, parts.pool, self._tell, parts.clock))
                links.close()
            finally:
                channels.close()
        except Exception:
            logger.exception("a reading thread ended; fetches that need it run out of their budget")
            raise

    def _serve(self, lane: Lane) -> None:
        while True:
            try:
                order = self.orders.get(timeout=_patience_s(lane.links))
            except queue.Empty:
                lane.poll()
                continue
            if order is None:
                return
            self._obey(lane, order)
            lane.poll()

    def _obey(self, lane: Lane, order: _Order) -> None:
        match order:
            case Read():
                lane.read(order, lambda: order.read_id not in self._cancelled)
            case CancelRead():
                lane.cancel(order.read_id)
            case _Attach():
                lane.links.attach(order.reached)
            case DropPeer():
                lane.links.drop(order.instance)
            case _:
                assert_never(order)

    def _tell(self, event: LaneEvent) -> None:
        """Hands an event over; while enough is left to read, a good end waits for the next one."""
        self._events.append(event)
        if isinstance(event, ReadEnd) and not event.problem and self.orders.qsize() > 1:
            return
        self._parts.wakeup.ring()


def _patience_s(links: Links) -> float | None:
    """Returns how long a lane may sleep until an order comes."""
    if links.num_reads:
        return max(_NAP_S, min(links.idle_s * _NAP_SHARE, _NAP_MAX_S))
    return _QUARANTINE_POLL_S if links.num_given_up else None
