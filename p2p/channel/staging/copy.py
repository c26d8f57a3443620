"""One staged copy: which of its pieces is in which stage. Starts work and polls it, never blocks.

The first stage fills a slot and the last one frees it. Each stage takes pieces in order and works
on its own (a thread, a stream, a network), so the whole takes as long as its slowest stage.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from p2p.channel.base import TransferState
from p2p.channel.staging.ring import Claim, SlotPhase, SlotRing, WaiterId
from p2p.channel.staging.stages import Stage, Work
from p2p.errors import ArgumentError, P2PError


@dataclass(slots=True)
class _Moving:
    """A piece in a slot.

    Attributes:
        piece: its number.
        claim: its slot.
        stage: the number of the stage that works on it.
        work: that stage's.
    """

    piece: int
    claim: Claim
    stage: int
    work: Work


class StagedCopy:
    """A copy that shares a ring with others; `StagingPump` drives it.

    Args:
        ring: its slots.
        waiter: its name in the ring's queue.
        stages: that every piece goes through, at least two.
        num_pieces: pieces.

    Attributes:
        num_done: pieces that have left the last stage, in any order.
        state: where it stands; `DONE` when every piece is through.
        problem: why it failed, or an empty string.

    Raises:
        ArgumentError: fewer than two stages, or no piece.
    """

    def __init__(
        self, ring: SlotRing, waiter: WaiterId, stages: Sequence[Stage], num_pieces: int
    ) -> None:
        if len(stages) < 2:
            raise ArgumentError("stages", len(stages), "one fills a slot and another empties it")
        if num_pieces < 1:
            raise ArgumentError("num_pieces", num_pieces, "at least one")
        self.waiter = waiter
        self.num_done = 0
        self.state = TransferState.PENDING
        self.problem = ""
        self._ring = ring
        self._stages = tuple(stages)
        self._num_pieces = num_pieces
        self._num_begun = 0
        self._moving: list[_Moving] = []
        self._left: list[_Moving] = []  # given up, not quiet yet
        ring.ask(waiter)

    @property
    def is_quiet(self) -> bool:
        """True once no stage can touch a slot of this copy any more."""
        return not self._moving and not self._left

    @property
    def is_over(self) -> bool:
        """True once nothing is left to be done for it."""
        return self.state is not TransferState.PENDING and self.is_quiet

    def begin(self, claim: Claim) -> None:
        """Starts the next piece in a slot that was granted, and queues for the one behind it."""
        piece = self._num_begun
        self._num_begun += 1
        self._start(_Moving(piece, claim, 0, _NOTHING))
        if self.state is TransferState.PENDING and self._num_begun < self._num_pieces:
            self._ring.ask(self.waiter)

    def advance(self) -> int:
        """Takes what the stages have done; returns how many steps that were."""
        num_steps = 0
        for moving in list(self._moving):
            if self.state is TransferState.PENDING:
                num_steps += self._take(moving)
        for moving in list(self._left):
            if moving.work.quiesced():
                self._left.remove(moving)
                self._ring.confirm(moving.claim)
                num_steps += 1
        return num_steps

    def cancel(self) -> None:
        """Gives it up, unless it has ended; its slots are free once their work has quiesced."""
        if self.state is TransferState.PENDING:
            self._end(TransferState.CANCELLED)

    # ------------------------------------------------------------------ parts

    def _take(self, moving: _Moving) -> int:
        """Looks at one piece; returns 1 if it moved on."""
        state = moving.work.poll()
        if state is TransferState.PENDING:
            return 0
        if state is not TransferState.DONE:
            self._fail(moving.work.error() or state.value)
            return 1
        self._moving.remove(moving)
        if moving.stage == 0:
            self._ring.fill(moving.claim)
        if moving.stage + 1 < len(self._stages):
            self._start(_Moving(moving.piece, moving.claim, moving.stage + 1, _NOTHING))
            return 1
        self._ring.finish(moving.claim)
        self.num_done += 1
        if self.num_done == self._num_pieces:
            self.state = TransferState.DONE
        return 1

    def _start(self, moving: _Moving) -> None:
        try:
            moving.work = self._stages[moving.stage].start(moving.piece, moving.claim.slot)
        except P2PError as error:
            # Nobody touches the slot: what had filled it is done.
            moving.work = _NOTHING
            self._moving.append(moving)
            self._fail(str(error))
            return
        if moving.stage == 1:
            self._ring.send(moving.claim)
        self._moving.append(moving)

    def _fail(self, problem: str) -> None:
        self.problem = problem
        self._end(TransferState.FAILED)

    def _end(self, state: TransferState) -> None:
        """Ends badly: what is under way is given up, and its slots go through quarantine."""
        self.state = state
        self._ring.withdraw(self.waiter)
        for moving in self._moving:
            moving.work.cancel()
            if self._ring.phase(moving.claim) is SlotPhase.READY:
                self._ring.abandon(moving.claim)
            else:
                self._ring.quarantine(moving.claim)
                self._left.append(moving)
        self._moving.clear()


class _Nothing:
    """Work that was never started."""

    def poll(self) -> TransferState:
        return TransferState.CANCELLED

    def error(self) -> str:
        return ""

    def cancel(self) -> None:
        """There is nothing to give up."""

    def quiesced(self) -> bool:
        return True


_NOTHING = _Nothing()
