"""Stages of a staged copy: a thread, a stream of a device, or a link.

A stage starts work on one slot at a time and never blocks; whoever drives the copy polls the work.
A `Transfer` of a channel is such work as it is.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from p2p.channel.base import Link, TransferState
from p2p.errors import DeviceError, LocalError
from p2p.kernels import DeviceEvent, DeviceStream

if TYPE_CHECKING:
    from concurrent.futures import Future


class Work(Protocol):
    """One piece in one stage. What these promise is what `Transfer` says of them."""

    def poll(self) -> TransferState:
        """Returns the state; a final one never changes again."""
        ...

    def error(self) -> str:
        """Returns why it failed, or an empty string."""
        ...

    def cancel(self) -> None:
        """Gives it up."""
        ...

    def quiesced(self) -> bool:
        """Returns true once it is certain that the slot is not touched any more."""
        ...


class Stage(Protocol):
    """Something that every piece goes through."""

    def start(self, piece: int, slot: int) -> Work:
        """Starts work on a piece in its slot, behind what was started before. Never blocks.

        Raises:
            P2PError: it could not be started; the slot is not touched.
        """
        ...


class ThreadStage:
    """A stage that copies on a thread of its own, one piece at a time.

    Args:
        name: of the thread.
        copy: does the work for a piece and a slot; done when it returns, failed when it raises.
    """

    def __init__(self, name: str, copy: Callable[[int, int], None]) -> None:
        self._copy = copy
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"p2p-{name}")

    def start(self, piece: int, slot: int) -> Work:
        """Hands a piece to the thread."""
        return _ThreadWork(self._thread.submit(self._copy, piece, slot))

    def close(self) -> None:
        """Waits for what was started and ends the thread."""
        self._thread.shutdown(wait=True)


class _ThreadWork:
    def __init__(self, future: "Future[None]") -> None:
        self._future = future
        self._is_cancelled = False

    def poll(self) -> TransferState:
        if self._is_cancelled:
            return TransferState.CANCELLED
        if not self._future.done():
            return TransferState.PENDING
        return TransferState.DONE if self._future.exception() is None else TransferState.FAILED

    def error(self) -> str:
        if not self._future.done() or self._future.cancelled():
            return ""
        problem = self._future.exception()
        return "" if problem is None else f"{type(problem).__name__}: {problem}"

    def cancel(self) -> None:
        if self.poll() is TransferState.PENDING:
            self._is_cancelled = True
            self._future.cancel()

    def quiesced(self) -> bool:
        return self._future.done()


class StreamStage:
    """A stage that enqueues on a stream of a device. Untested on hardware.

    The host does not wait: an event behind each piece says when it is done. The host's own stream
    has no queue, so work there is done when it was started; that is what tests run.

    Args:
        stream: of this stage alone.
        enqueue: starts the work for a piece and a slot on the current stream.
    """

    def __init__(self, stream: DeviceStream, enqueue: Callable[[int, int], None]) -> None:
        self._stream = stream
        self._enqueue = enqueue

    def start(self, piece: int, slot: int) -> Work:
        """Enqueues a piece behind the ones before.

        Raises:
            DeviceError: the device does not even take an event any more.
        """
        problem = ""
        try:
            with self._stream.active():
                self._enqueue(piece, slot)
        except (LocalError, RuntimeError) as error:  # torch's errors of devices are RuntimeErrors
            problem = f"{type(error).__name__}: {error}"
        try:
            return _EventWork(self._stream.record(), problem)
        except RuntimeError as error:
            raise DeviceError(problem or str(error)) from error


class _EventWork:
    """What was enqueued cannot be taken back: the slot is quiet when the event has passed.

    A device that fails while it is asked has stopped all of its work.
    """

    def __init__(self, event: DeviceEvent, problem: str = "") -> None:
        self._event = event
        self._problem = problem
        self._is_broken = False
        self._is_cancelled = False

    def poll(self) -> TransferState:
        if self._is_cancelled:
            return TransferState.CANCELLED
        if not self._problem and not self._is_done():
            return TransferState.PENDING
        return TransferState.FAILED if self._problem else TransferState.DONE

    def error(self) -> str:
        return self._problem

    def cancel(self) -> None:
        self._is_cancelled = self.poll() is TransferState.PENDING

    def quiesced(self) -> bool:
        return self._is_broken or self._is_done()

    def _is_done(self) -> bool:
        try:
            return self._event.is_done()
        except RuntimeError as error:
            self._problem, self._is_broken = str(error), True
            return True


class Direction(Enum):
    """Which way a link moves a slot."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class LinkStage:
    """The network: slots of the ring, which is the link's region, from or to blocks of a peer.

    Attributes:
        link: over the ring's memory.
        direction: whether slots are filled from the peer, or sent to it.
        block_of: the peer's block for a piece.
    """

    link: Link
    direction: Direction
    block_of: Callable[[int], int]

    def start(self, piece: int, slot: int) -> Work:
        """Submits the transfer of a slot.

        Raises:
            LinkDownError: the peer is gone.
        """
        move = self.link.read if self.direction is Direction.READ else self.link.write
        return move([slot], [self.block_of(piece)])
