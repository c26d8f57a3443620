"""Asks the directory where a prompt is, for callers that wait for the answer. Takes no decision."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from p2p.backend.actions import ShortReason
from p2p.backend.fetch_log import check_request_id
from p2p.backend.instance import InstanceCore
from p2p.backend.results import Hit, ended_of_hit, hit_of
from p2p.errors import PeerUnreachableError
from p2p.keys import ChunkKey, check_keys
from p2p.wire.context import WireContext
from p2p.wire.decoders import CONTROLLER_REPLIES
from p2p.wire.messages import Holder, Located
from p2p.wire.requester import Requester


class Locator:
    """Locates prompts, one at a time. Thread-safe.

    Args:
        core: the instance.
        lock: held for every use of the core.
        wire: makes the socket.
        controller: address.
        clock: in seconds.

    Attributes:
        on_named: called with the holders that an answer names, by the thread that asked.
    """

    def __init__(
        self,
        core: InstanceCore,
        lock: threading.RLock,
        wire: WireContext,
        controller: str,
        clock: Callable[[], float],
    ) -> None:
        self.on_named: Callable[[Sequence[Holder]], None] = _do_nothing
        self._core = core
        self._lock = lock
        self._clock = clock
        self._ask_lock = threading.Lock()
        self._requester = Requester(wire, controller, CONTROLLER_REPLIES)

    def locate(
        self, keys: Sequence[ChunkKey], tenant: str, timeout_s: float, request_id: str
    ) -> Hit:
        """Returns where the longest prefix is, and remembers that for the controller.

        Raises:
            ArgumentError: keys differ in length, or the id is too long.
        """
        check_keys(keys)
        check_request_id(request_id)
        began_s = self._clock()
        with self._lock:
            num_local = len(self._core.index.prefix(keys, tenant))
            request_id = request_id or self._core.fetch_log.next_id(self._core.identity)
        hit = self._located(keys, tenant, num_local, timeout_s)
        ended_s = self._clock()
        ended = ended_of_hit(hit, keys, tenant, request_id, ended_s - began_s)
        with self._lock:
            self._core.fetch_log.note(ended, ended_s)
        return replace(hit, request_id=request_id)

    def close(self) -> None:
        """Closes the socket."""
        self._requester.close()

    def _located(
        self, keys: Sequence[ChunkKey], tenant: str, num_local: int, timeout_s: float
    ) -> Hit:
        if num_local == len(keys):
            return Hit(num_local, num_local, (), (), ShortReason.COMPLETE)
        with self._lock:
            following = self._core.following
            known = None
            if following is not None:
                known = following.locate(keys[num_local:], tenant, self._clock())
        if known is not None:
            self.on_named(known.holders)
            return hit_of(known, num_local, len(keys))
        question = self._core.question(keys[num_local:], tenant)
        try:
            with self._ask_lock:
                answer = self._requester.request(question, timeout_s)
        except PeerUnreachableError:
            return Hit(num_local, num_local, (), (), ShortReason.CONTROLLER_SILENT)
        if isinstance(answer, Located):
            self.on_named(answer.holders)
        return hit_of(answer, num_local, len(keys))


def _do_nothing(_holders: Sequence[Holder]) -> None:
    """Until somebody sets `Locator.on_named`."""
