"""What a fetch engine is made of, and what its callers hold. No decisions."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from p2p.backend.actions import FetchOutcome
from p2p.backend.fetch import Fetch
from p2p.backend.pairs import Pairs
from p2p.backend.pool import PoolMemory
from p2p.backend.reader import ReaderCore
from p2p.channel.channels import Channels
from p2p.wire.context import WireContext


class Observer(Protocol):
    """Watches fetches; called on the driving thread, which waits for it."""

    def on_phase(self, phase: str, num_arrived: int, num_chunks: int) -> None:
        """A fetch reached a phase (`Phase`), with so many of its chunks arrived."""
        ...


@dataclass(frozen=True)
class EngineParts:
    """What an engine works with.

    Attributes:
        reader: decides.
        lock: held for every use of the reader and of the instance behind it.
        wire: makes sockets.
        controller: its address.
        channels: make links.
        pairs: choose among them.
        pool: where chunks land.
        clock: of the reader.
        quarantine_s: a given-up read that has not quiesced by then is fenced.
        num_lanes: threads that read and verify.
        on_commit: called after chunks were committed: there are events to send.
        on_late_answer: called when peers are to be told of what they had asked for.
        observer: watches fetches, if anybody does.
    """

    reader: ReaderCore
    lock: threading.RLock
    wire: WireContext
    controller: str
    channels: Channels
    pairs: Pairs
    pool: PoolMemory
    clock: Callable[[], float]
    quarantine_s: float
    num_lanes: int
    on_commit: Callable[[], None]
    on_late_answer: Callable[[], None]
    observer: Observer | None = None


@dataclass(frozen=True, slots=True)
class FetchWatch:
    """Who wants to know how a fetch goes; called on the driving thread, which waits.

    Attributes:
        on_progress: more chunks may be in the pool.
        on_done: the outcome is there.
    """

    on_progress: Callable[[], None]
    on_done: Callable[[FetchOutcome], None]


@dataclass(slots=True, eq=False)
class Ticket:
    """One fetch as its caller sees it.

    Attributes:
        fetch: its state.
        watch: who wants to know how it goes, if anybody does.
        done: set when the outcome is there.
    """

    fetch: Fetch
    watch: FetchWatch | None = None
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def outcome(self) -> FetchOutcome | None:
        """The outcome, once it is there."""
        return self.fetch.outcome
