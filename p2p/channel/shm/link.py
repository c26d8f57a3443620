"""Links and transfers of the `shm` channel."""

from dataclasses import dataclass
from enum import Enum

from p2p.channel.access import Access
from p2p.channel.base import BlockIndexes, TransferState
from p2p.channel.indexes import checked_pair
from p2p.channel.shm.copier import Copier, CopyJob
from p2p.channel.shm.pieces import Place, cut
from p2p.channel.shm.session import Session
from p2p.errors import LinkDownError, PeerRefusedError
from p2p.regions import Region

_PIECE_BYTES = 1 << 20
_PAUSE_S = 50e-6
_GONE = "its process has ended, or serves its pool no more"


class _Direction(Enum):
    READ = "read"
    WRITE = "write"


class ShmTransfer:
    """One submitted transfer; implements `p2p.channel.base.Transfer`.

    Args:
        session: with the peer; None if the transfer is complete already.
        job: its copies; None if there are none.
        direction: where they go.
    """

    __slots__ = ("_direction", "_is_complete", "_job", "_reason", "_session", "_state")

    def __init__(
        self, session: Session | None, job: CopyJob | None, direction: "_Direction"
    ) -> None:
        self._session = session
        self._job = job
        self._direction = direction
        self._is_complete = job is None
        self._state = TransferState.DONE if job is None else TransferState.PENDING
        self._reason = ""

    def poll(self) -> TransferState:
        """Returns the state. Waits up to 50 µs for one in flight, so that its threads can go on."""
        if self._state is TransferState.PENDING:
            self._look(_PAUSE_S)
        return self._state

    def error(self) -> str:
        """Returns why it failed, or an empty string."""
        return self._reason

    def cancel(self) -> None:
        """Gives it up: it quiesces when the pieces that are being copied have been copied."""
        self._look(0.0)
        if self._state is TransferState.PENDING and self._job is not None:
            self._state = TransferState.CANCELLED
            self._job.stop()
            self._look(0.0)

    def quiesced(self) -> bool:
        """Returns true once no thread touches memory for it; may wait up to 50 µs."""
        self._look(_PAUSE_S)
        return self._job is None

    def settled(self) -> bool:
        """Returns true once the peer's memory is out of reach too."""
        return self.quiesced() and (self._is_complete or self._direction is _Direction.READ)

    def has_ended(self) -> bool:
        """Returns whether it has quiesced; never waits."""
        self._look(0.0)
        return self._job is None

    def is_given_up(self) -> bool:
        """Returns whether it was cancelled and has not quiesced; never waits."""
        return self._state is TransferState.CANCELLED and not self.has_ended()

    def wait(self) -> None:
        """Waits until it has quiesced: once given up, that takes one piece."""
        if self._job is not None:
            self._job.wait()
            self._look(0.0)

    def _look(self, timeout_s: float) -> None:
        """Ends it if its copies have ended. What a dead holder's memory gave is not trusted."""
        if self._job is None or not self._job.has_ended(timeout_s):
            return
        self._job = None
        if self._state is TransferState.PENDING:
            self._is_complete = True
            self._state = TransferState.DONE
            if self._session is not None and not self._session.is_alive():
                self._state, self._reason = TransferState.FAILED, _GONE
        self._session = None


@dataclass(frozen=True, slots=True)
class CopyRules:
    """How transfers are copied.

    Attributes:
        region: ours.
        copier: copies the large ones.
        inline_bytes: a transfer of at most so many bytes is copied inside the submitting call.
    """

    region: Region
    copier: Copier
    inline_bytes: int


class ShmLink:
    """A peer's mapped pool; implements `p2p.channel.base.Link`.

    Args:
        session: with the peer.
        rules: how transfers are copied.
    """

    def __init__(self, session: Session, rules: CopyRules) -> None:
        self.peer = session.target.peer
        self._session: Session | None = session
        self._rules = rules
        self._in_flight: list[ShmTransfer] = []
        self._down = ""

    def read(self, local: BlockIndexes, remote: BlockIndexes) -> ShmTransfer:
        """Submits a copy of the peer's blocks onto ours."""
        return self._submit(_Direction.READ, local, remote)

    def write(self, local: BlockIndexes, remote: BlockIndexes) -> ShmTransfer:
        """Submits a copy of our blocks onto the peer's.

        Raises:
            PeerRefusedError: the peer's pool is not lent for writing, or we did not ask for that.
        """
        return self._submit(_Direction.WRITE, local, remote)

    def transport(self) -> str:
        """Returns ``shm``."""
        return "shm"

    def is_up(self) -> bool:
        """Returns false once every later transfer would be refused."""
        if self._session is None or not self._session.is_alive():
            self.go_down(_GONE)
        return not self._down

    def close(self) -> None:
        """Ends the link; what is in flight is given up and quiesces after a piece a thread.

        The peer's pool is unmapped with the last reference to it.
        """
        self.go_down("the link is closed")
        for transfer in self._in_flight:
            transfer.cancel()
        self._session = None

    def go_down(self, reason: str) -> None:
        """Refuses every later transfer with a reason; the first one stays."""
        self._down = self._down or reason

    def given_up(self) -> list[ShmTransfer]:
        """Returns the given-up transfers that have not quiesced."""
        self._in_flight = [transfer for transfer in self._in_flight if not transfer.has_ended()]
        return [transfer for transfer in self._in_flight if transfer.is_given_up()]

    def fence(self, reason: str) -> None:
        """Waits until given-up transfers have quiesced; goes down if there were some."""
        for transfer in self.given_up():
            self.go_down(reason)
            transfer.wait()

    def _submit(
        self, direction: _Direction, local: BlockIndexes, remote: BlockIndexes
    ) -> ShmTransfer:
        session = self._session
        if session is None or not self.is_up():
            raise LinkDownError(self.peer, self._down)
        ours, theirs = self._rules.region, session.target.region
        blocks = checked_pair(local, remote, (ours.count, theirs.count))
        if direction is _Direction.WRITE and session.access is not Access.WRITE:
            raise PeerRefusedError(self.peer, "access", Access.WRITE.value, session.access.value)
        if not len(blocks[0]):
            return ShmTransfer(None, None, direction)
        places = Place(ours, 0, blocks[0]), Place(theirs, session.shift, blocks[1])
        target, source = places if direction is _Direction.READ else reversed(places)
        num_bytes = ours.block_bytes * len(blocks[0])
        if num_bytes <= self._rules.inline_bytes:
            return self._copy_now(CopyJob(cut(target, source, num_bytes), session), direction)
        return self._copy_aside(CopyJob(cut(target, source, _PIECE_BYTES), session), direction)

    def _copy_now(self, job: CopyJob, direction: _Direction) -> ShmTransfer:
        while job.copy_next():
            pass
        transfer = ShmTransfer(self._session, job, direction)
        transfer.poll()
        return transfer

    def _copy_aside(self, job: CopyJob, direction: _Direction) -> ShmTransfer:
        transfer = ShmTransfer(self._session, job, direction)
        self._in_flight = [other for other in self._in_flight if not other.has_ended()]
        self._in_flight.append(transfer)
        self._rules.copier.submit(job)
        return transfer
