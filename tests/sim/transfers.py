"""Simulated one-sided reads: bytes go from the holder's present memory, a piece at a time.

The contract is that of `p2p.channel.base`: a read is polled, may fail with or without having
quiesced, and a cancelled one may write until it has quiesced. What a read will suffer is drawn when
it starts; the holder's death, standstill and cuts come on top.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from p2p.backend.actions import Read
from p2p.channel.base import TransferState
from tests.sim.pool import PIECES, Stored

if TYPE_CHECKING:
    from tests.sim.instance import SimInstance

_WAIT_S = 0.02


class Fate(Enum):
    """What a read suffers by itself."""

    NONE = "none"
    STALL = "stall"
    FAIL = "fail"
    BREAK = "break"
    HANG = "hang"
    FLIP = "flip"
    TEAR = "tear"


@dataclass(slots=True)
class Woes:
    """What reads suffer, and links that are being made.

    Attributes:
        by_fate: probabilities, per read.
        reads_need_holder: nothing arrives while the holder stands still.
        steps_s: times for one piece, one of which is drawn for a read.
        slow_links: probability that a channel is connected late, or too late.
    """

    by_fate: dict[Fate, float] = field(default_factory=dict)
    reads_need_holder: bool = False
    steps_s: tuple[float, ...] = (0.0002, 0.002, 0.01, 0.03)
    slow_links: float = 0.0


@dataclass(slots=True, eq=False)
class Transfer:
    """One read.

    Attributes:
        token: of the lease under which it was submitted.
        is_quiet: it can no longer write.
        in_lease: when its last byte arrived, the holder still lent the slots.
        truth: what the holder had stored in the slots at that moment.
    """

    action: Read
    reader: "SimInstance"
    holder: "SimInstance"
    token: int
    fate: Fate
    fate_at: int
    step_s: float
    holder_life: int
    reader_life: int
    state: TransferState = TransferState.PENDING
    is_quiet: bool = False
    in_lease: bool = False
    num_done: int = 0
    truth: list[Stored | None] = field(default_factory=list)

    @property
    def num_pieces(self) -> int:
        """Pieces of all chunks."""
        return PIECES * len(self.action.local)

    @property
    def label(self) -> str:
        """For the trace."""
        return f"read {self.action.read_id} from {self.holder.name}"

    def start(self) -> None:
        """Opens the slots for writing; the first piece comes later."""
        self.reader.pool.open_for(self.action.read_id, self.action.local)
        self._go_on(self.step_s)

    def run_now(self) -> None:
        """Copies everything inside the call, as between processes of one host."""
        self.reader.pool.open_for(self.action.read_id, self.action.local)
        while not self.is_quiet and self._is_there():
            self._copy()
        if not self.is_quiet:
            self._end(TransferState.FAILED)

    def cancel(self, is_quick: bool) -> None:
        """Gives the read up; a quick one has its socket closed at once."""
        if self.state is TransferState.PENDING:
            self.state = TransferState.CANCELLED
            if is_quick:
                self.quiesce()

    def curse(self, fate: Fate) -> None:
        """Something happens to the next piece."""
        self.fate, self.fate_at = fate, self.num_done

    def quiesce(self) -> None:
        """From now on it cannot write."""
        self.is_quiet = True
        self.reader.pool.close_for(self.action.read_id, self.action.local)

    def _go_on(self, delay_s: float) -> None:
        reader = self.reader
        reader.clock.after(delay_s, f"{reader.name} {self.label} {self.num_done}", self._piece)

    def _piece(self) -> None:
        if self.is_quiet:
            return
        if not self._is_reader_there():
            self.is_quiet = True
        elif not self._is_there():
            self._lose_holder()
        elif self._must_wait():
            self._go_on(_WAIT_S)
        elif self.num_done == self.fate_at and self.fate is not Fate.NONE:
            self._suffer()
        else:
            self._copy()
            if not self.is_quiet:
                self._go_on(self.step_s)

    def _is_reader_there(self) -> bool:
        return self.reader.is_up and self.reader.life == self.reader_life

    def _is_there(self) -> bool:
        return self.holder.is_up and self.holder.life == self.holder_life

    def _must_wait(self) -> bool:
        world = self.reader.world
        stopped = self.holder.is_stopped and world.woes.reads_need_holder
        return stopped or world.network.is_cut(self.reader.name, self.holder.name)

    def _lose_holder(self) -> None:
        """The holder died: mostly that ends the read, sometimes more is still to come."""
        if self.state is TransferState.PENDING and self.reader.clock.chance(0.3):
            self.state = TransferState.FAILED
            self.reader.engine.on_transfer(self)
            self._go_on(self.reader.clock.random.uniform(_WAIT_S, 1.0))
        else:
            self._end(TransferState.FAILED)

    def _suffer(self) -> None:
        fate, self.fate = self.fate, Fate.NONE
        self.reader.world.coverage.hit(f"read_{fate.value}", self.reader.name)
        draw = self.reader.clock.random
        match fate:
            case Fate.STALL:
                self._go_on(draw.uniform(0.05, 2.5))
            case Fate.FAIL:
                self._end(TransferState.FAILED)
            case Fate.BREAK | Fate.HANG:
                if self.state is TransferState.PENDING:
                    self.state = TransferState.FAILED
                    self.reader.engine.on_transfer(self)
                self._go_on(draw.uniform(0.01, 0.8) if fate is Fate.BREAK else 1e6)
            case _:
                self._spoil(fate)

    def _spoil(self, fate: Fate) -> None:
        """The transport says that all is well, but a piece is not what was sent."""
        if fate is Fate.FLIP:
            self._copy(flip=0x40)
        elif fate is Fate.TEAR:  # it never arrives
            self._next_piece()
        if not self.is_quiet:
            self._go_on(self.step_s)

    def _copy(self, flip: int = 0) -> None:
        chunk, part = divmod(self.num_done, PIECES)
        ours, theirs = self.reader.pool.bytes, self.holder.pool.bytes
        span = ours.shape[1] // PIECES
        piece = slice(part * span, (part + 1) * span)
        local, remote = self.action.local[chunk], self.action.remote[chunk]
        ours[local, piece] = theirs[remote, piece]
        ours[local, piece.start] ^= flip
        self._next_piece()

    def _next_piece(self) -> None:
        self.num_done += 1
        if self.num_done == 1 and self.state is TransferState.PENDING:
            self.reader.on_first_piece(self.action.read_id)
        if self.num_done == self.num_pieces:
            self._end(TransferState.DONE)

    def _end(self, state: TransferState) -> None:
        if state is TransferState.DONE:
            self._note_truth()
        self.quiesce()
        if self.state is TransferState.PENDING:
            self.state = state
        self.reader.engine.on_transfer(self)

    def _note_truth(self) -> None:
        core = self.holder.core
        self.truth = [self.holder.pool.stored(slot, core.slots) for slot in self.action.remote]
        lease = core.leases._leases.get(self.token)  # type: ignore[call-overload]
        self.in_lease = lease is not None and lease.deadline_s >= self.holder.now_s()
