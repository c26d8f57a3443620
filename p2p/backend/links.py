"""The links to holders, each over one channel, and the reads under way on them. No decisions.

Used by one thread at a time, as its channels are.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2p.backend.actions import Read, ReadId
from p2p.backend.trials import Path
from p2p.channel.base import Transfer, TransferState
from p2p.channel.channels import Channels, Reached
from p2p.errors import ArgumentError, P2PError, PeerError

if TYPE_CHECKING:
    from p2p.channel.base import Link

logger = logging.getLogger(__name__)


Roots = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class ReadEnd:
    """How a read ended.

    Attributes:
        read_id: which.
        problem: empty if all bytes are there.
        is_quiet: it can no longer touch memory.
        ended_s: when that was seen.
        roots: digests of its chunks, one tuple over the ranks for each, where they were computed.
        failed: over what it failed, if it was under way when it did.
    """

    read_id: ReadId
    problem: str
    is_quiet: bool
    ended_s: float
    roots: Roots = ()
    failed: Path | None = None


@dataclass(frozen=True, slots=True)
class _Connection:
    link: "Link"
    channel: str


@dataclass(slots=True)
class _UnderWay:
    action: Read
    transfer: Transfer
    connection: _Connection


@dataclass(slots=True)
class _GivenUp:
    transfer: Transfer
    instance: str
    since_s: float


class Links:
    """Links over the channels of one thread.

    Args:
        channels: make them.
        clock: in seconds.
        quarantine_s: a given-up read that has not quiesced by then is fenced.
    """

    def __init__(self, channels: Channels, clock: Callable[[], float], quarantine_s: float) -> None:
        self._channels = channels
        self._clock = clock
        self._quarantine_s = quarantine_s
        self._links: dict[str, _Connection] = {}
        self._left: dict[str, list[_Connection]] = {}
        self._reads: dict[ReadId, _UnderWay] = {}
        self._given_up: dict[ReadId, _GivenUp] = {}
        self._lost: list[str] = []
        self._moved_s = clock()

    @property
    def idle_s(self) -> float:
        """Seconds since a read was submitted or ended."""
        return self._clock() - self._moved_s

    @property
    def num_reads(self) -> int:
        """Reads under way."""
        return len(self._reads)

    @property
    def num_given_up(self) -> int:
        """Reads that were given up and have not quiesced."""
        return len(self._given_up)

    def attach(self, reached: Reached) -> str | None:
        """Connects to a holder that answered; returns what was wrong, or None.

        What is under way over another channel ends there.
        """
        try:
            link = self._channels.attach(reached)
        except P2PError as error:
            logger.warning("no link to %s: %s", reached.peer, error)
            return str(error)
        earlier = self._links.get(reached.peer)
        self._links[reached.peer] = _Connection(link, reached.channel)
        if earlier is not None and earlier.channel != reached.channel:
            self._left.setdefault(reached.peer, []).append(earlier)
            self._close_left()
        return None

    def submit(self, action: Read) -> ReadEnd | None:
        """Starts a read; returns its end if that is known already. May copy inside the call."""
        connection = self._links.get(action.instance)
        if connection is None:
            return self._failed(action, "no link")
        try:
            transfer = connection.link.read(action.local, action.remote)
        except PeerError as error:
            path = Path(action.instance, connection.channel)
            return self._failed(action, str(error), path)
        except ArgumentError as error:
            return self._failed(action, str(error))
        under_way = _UnderWay(action, transfer, connection)
        self._reads[action.read_id] = under_way
        self._moved_s = self._clock()
        return self._look(under_way)

    def poll(self) -> list[ReadEnd]:
        """Returns the reads that ended since the last call."""
        if not self._reads:
            return []
        looks = [self._look(under_way) for under_way in list(self._reads.values())]
        ends = [end for end in looks if end is not None]
        if ends and self._left:
            self._close_left()
        return ends

    def cancel(self, read_id: ReadId) -> bool:
        """Gives a read up; false if it is not under way here."""
        under_way = self._reads.pop(read_id, None)
        if under_way is None:
            return False
        under_way.transfer.cancel()
        self._keep(under_way)
        return True

    def poll_given_up(self) -> list[ReadId]:
        """Returns given-up reads that have quiesced, fencing those that take too long."""
        if not self._given_up:
            return []
        self._channels.quarantined()
        now_s = self._clock()
        late = {
            given_up.instance
            for given_up in self._given_up.values()
            if now_s > given_up.since_s + self._quarantine_s
        }
        for instance in late:
            logger.warning("%s: a given-up read did not quiesce, fencing", instance)
            self._channels.fence(instance)
        self._drop_lost()
        quiet = [id_ for id_, given_up in self._given_up.items() if given_up.transfer.quiesced()]
        for read_id in quiet:
            del self._given_up[read_id]
        return quiet

    def take_lost(self) -> list[str]:
        """Returns the holders whose links went with a fence since the last call."""
        if not self._lost:
            return []
        lost, self._lost = self._lost, []
        return lost

    def drop(self, instance: str) -> None:
        """Closes the links to a holder."""
        connections = self._left.pop(instance, [])
        if instance in self._links:
            connections.append(self._links.pop(instance))
        for connection in connections:
            connection.link.close()

    def close(self) -> None:
        """Closes every link."""
        for instance in list(self._links):
            self.drop(instance)

    def _failed(self, action: Read, problem: str, path: Path | None = None) -> ReadEnd:
        return ReadEnd(action.read_id, problem, is_quiet=True, ended_s=self._clock(), failed=path)

    def _look(self, under_way: _UnderWay) -> ReadEnd | None:
        state = under_way.transfer.poll()
        if state is TransferState.PENDING:
            return None
        read_id = under_way.action.read_id
        del self._reads[read_id]
        ended_s = self._moved_s = self._clock()
        if state is TransferState.DONE:
            return ReadEnd(read_id, "", is_quiet=True, ended_s=ended_s)
        is_quiet = under_way.transfer.quiesced()
        if not is_quiet:
            self._keep(under_way)
        problem = under_way.transfer.error() or state.value
        path = Path(under_way.action.instance, under_way.connection.channel)
        failed = path if state is TransferState.FAILED else None
        return ReadEnd(read_id, problem, is_quiet, ended_s, failed=failed)

    def _keep(self, under_way: _UnderWay) -> None:
        action = under_way.action
        self._given_up[action.read_id] = _GivenUp(
            under_way.transfer, action.instance, self._clock()
        )

    def _drop_lost(self) -> None:
        for instance in [name for name, one in self._links.items() if not one.link.is_up()]:
            self._lost.append(instance)
            self.drop(instance)

    def _close_left(self) -> None:
        """Closes the links over earlier channels on which nothing is read any more."""
        busy = [under_way.connection for under_way in self._reads.values()]
        for instance, connections in list(self._left.items()):
            for connection in connections:
                if connection not in busy:
                    connection.link.close()
            kept = [connection for connection in connections if connection in busy]
            if kept:
                self._left[instance] = kept
            else:
                del self._left[instance]
