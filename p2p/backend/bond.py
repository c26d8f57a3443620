"""The thread that keeps the bond with the controller: sends what `Membership` says, no more."""

import logging
import threading
import time
from collections.abc import Callable

import zmq

from p2p.backend.instance import InstanceCore
from p2p.backend.membership import BondState
from p2p.errors import PeerUnreachableError
from p2p.wire.codec import ONE_WAY
from p2p.wire.context import WireContext
from p2p.wire.decoders import CONTROLLER_REPLIES
from p2p.wire.requester import Requester
from p2p.wire.wakeup import Wakeup

logger = logging.getLogger(__name__)
_LONGEST_WAIT_S = 1.0
_COLLECT_S = 0.003
_LEAVE_S = 0.25
_LOOK_S = 0.005


class BondThread:
    """Runs an instance's membership.

    Args:
        core: the instance.
        lock: held for every use of the core.
        wire: makes the socket.
        controller: address.
        clock: of the core.

    Attributes:
        on_wake: called some milliseconds after `wake`, by the thread.
        on_news: called when members are gone, or orders need the reading half, by the thread.
    """

    def __init__(
        self,
        core: InstanceCore,
        lock: threading.RLock,
        wire: WireContext,
        controller: str,
        clock: Callable[[], float],
    ) -> None:
        self.on_wake: Callable[[], None] = _do_nothing
        self.on_news: Callable[[], None] = _do_nothing
        self._core = core
        self._lock = lock
        self._clock = clock
        self._requester = Requester(wire, controller, CONTROLLER_REPLIES)
        self._wakeup = Wakeup()
        self._stopping = False
        self._changed = threading.Condition()
        self._last_state = BondState.ALONE
        self._thread = threading.Thread(target=self._run, name="p2p-bond", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There are events to send. Any thread; after the end it does nothing."""
        self._wakeup.ring()

    def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until a condition on the membership holds and returns whether it does."""
        with self._changed:
            return self._changed.wait_for(lambda: self._holds(condition), timeout_s)

    def leave(self) -> None:
        """Has the directory name us to nobody any more; waits a moment for it to know."""
        membership = self._core.membership
        with self._lock:
            membership.leave()
        self.wake()
        self.wait_until(membership.is_leave_known, _LEAVE_S)

    def wait_returned(self, timeout_s: float) -> None:
        """Waits until nothing is lent any more."""
        end_s = self._clock() + timeout_s
        while self._clock() < end_s and self._holds(lambda: self._core.is_lending):
            time.sleep(_LOOK_S)

    def stop(self) -> None:
        """Says farewell, without waiting for an answer, and ends the thread."""
        self._stopping = True
        self.wake()
        self._thread.join()
        self._wakeup.close()

    def _holds(self, condition: Callable[[], bool]) -> bool:
        with self._lock:
            return condition()

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._requester.socket, zmq.POLLIN)
        poller.register(self._wakeup, zmq.POLLIN)
        try:
            while not self._stopping:
                wait_s = self._send_due()
                ready = dict(poller.poll(int(wait_s * 1000) + 1))
                if self._wakeup.fileno() in ready:
                    time.sleep(_COLLECT_S)  # more changes follow, and one batch tells them all
                    self._wakeup.clear()
                    self.on_wake()
                if self._requester.socket in ready:
                    self._take_answers()
            self._say_farewell()
        except Exception:
            logger.exception("the bond with the controller ended; this instance is on its own now")
            raise
        finally:
            self._requester.close(linger_s=0.2)

    def _send_due(self) -> float:
        now_s = self._clock()
        with self._lock:
            core = self._core
            core.carry_out_orders(now_s)
            messages = core.membership.poll(now_s, core.leases.num_bytes)
            due_s = core.next_bond_s(now_s)
            if core.following is not None:
                messages += core.following.poll(now_s)
                due_s = min(due_s, core.following.next_deadline_s(now_s))
            wait_s = due_s - now_s
            wants_reader = bool(core.errands.for_reader)
        if wants_reader:
            self.on_news()
        for message in messages:
            try:
                self._requester.send(message, self._requester.next_id())
            except PeerUnreachableError as error:
                logger.debug("%s", error)
        return min(max(wait_s, 0.0), _LONGEST_WAIT_S)

    def _take_answers(self) -> None:
        answers = self._requester.receive()
        now_s = self._clock()
        with self._lock:
            for answer in answers:
                self._core.membership.on_answer(answer.message, now_s)
                if self._core.following is not None:
                    self._core.following.on_answer(answer.message, now_s)
            has_news = self._core.take_news()
            state, refusal = self._core.membership.state, self._core.membership.refusal
        if has_news:
            self.on_news()
        if state is not self._last_state:
            self._log(state, refusal)
        with self._changed:
            self._changed.notify_all()

    def _log(self, state: BondState, refusal: object) -> None:
        self._last_state = state
        level = logging.ERROR if state in {BondState.FENCED, BondState.REFUSED} else logging.INFO
        logger.log(level, "%s: bond is %s %s", self._requester.address, state.value, refusal or "")

    def _say_farewell(self) -> None:
        with self._lock:
            messages = self._core.membership.farewell(self._clock())
        try:
            for message in messages:
                self._requester.send(message, ONE_WAY)
        except PeerUnreachableError as error:
            logger.debug("%s", error)


def _do_nothing() -> None:
    """Until somebody sets `BondThread.on_wake`."""
