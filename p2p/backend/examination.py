"""Finds out what this machine has when somebody asks, on a thread of its own: it may take long.

What people are told is the state of the pairs now and what was found at the first question.
"""

import logging
import queue
import threading
from functools import cached_property
from typing import TYPE_CHECKING

from p2p.agent.host_limits import read_limits, read_place
from p2p.agent.network_devices import network_devices
from p2p.backend.engine_parts import EngineParts
from p2p.backend.findings import Machine, diagnosis_of, own_channels
from p2p.backend.own_channels import OpenedChannels
from p2p.backend.settings import BackendConfig
from p2p.kernels import devices_here
from p2p.wire.exchange import Sender
from p2p.wire.messages import (
    Diagnosis,
    OwnChannel,
)

if TYPE_CHECKING:
    from p2p.backend.cache_copies import CacheCopies

logger = logging.getLogger(__name__)


class Examination:
    """Answers what people want to know of this instance's machine and channels.

    Args:
        config: of the instance.
        opened: its channels.
        parts: of its engine.

    Attributes:
        caches: the engine's paged caches.
    """

    def __init__(self, config: BackendConfig, opened: OpenedChannels, parts: EngineParts) -> None:
        self.caches: list[CacheCopies] = []
        self._config = config
        self._opened = opened
        self._parts = parts
        self._askers: queue.SimpleQueue[Sender | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="p2p-examine", daemon=True)
        self._is_started = False

    def submit(self, sender: Sender) -> None:
        """Has somebody answered, as a late answer. Only the service's thread calls this."""
        if not self._is_started:
            self._is_started = True
            self._thread.start()
        self._askers.put(sender)

    def close(self) -> None:
        """Ends the thread; nobody is answered any more."""
        self._askers.put(None)
        if self._is_started:
            self._thread.join()

    def diagnosis(self) -> Diagnosis:
        """Returns what was found, and how the pairs stand now."""
        parts = self._parts
        caches = list(self.caches)
        kernels = [view for cache in caches for view in cache.kernels()]
        with parts.lock:
            now_s, speeds = parts.clock(), parts.reader.book.speeds
            pairs = parts.pairs.views(speeds, now_s)
            identity = parts.reader.instance.identity
        return diagnosis_of(identity, self._machine, self._own, kernels, pairs)

    def _run(self) -> None:
        try:
            while (sender := self._askers.get()) is not None:
                answer = self.diagnosis()
                with self._parts.lock:
                    self._parts.reader.instance.answer_late(sender, answer)
                self._parts.on_late_answer()
        except Exception:
            logger.exception("the examining thread ended; `doctor` will miss this instance")
            raise

    @cached_property
    def _machine(self) -> Machine:
        return Machine(
            read_place(), read_limits(), devices_here(), network_devices(), self._config.device
        )

    @cached_property
    def _own(self) -> tuple[OwnChannel, ...]:
        names = [offer.channel for offer in self._opened.channels.offers()]
        return own_channels(names, self._opened.absent, self._config, self._machine)
