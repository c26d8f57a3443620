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
from p2p.errors import PluginMissingError

if TYPE_CHECKING:
    from concurrent.futures import Future

    import torch


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

    The host does not wait: an event behind each piece says when it is done. On the CPU there are
    no streams, so work is done when it was started; that is what tests run.

    Args:
        device: by torch's name.
        enqueue: starts the work for a piece and a slot on the current stream.

    Raises:
        PluginMissingError: torch is not installed.
    """

    def __init__(self, device: str, enqueue: Callable[[int, int], None]) -> None:
        try:
            import torch  # noqa: PLC0415  an optional package
        except ImportError as error:
            raise PluginMissingError("streams need torch: p2p-kv[torch]") from error
        self._torch = torch
        self._device = torch.device(device)
        self._enqueue = enqueue
        self.stream = torch.Stream(device=self._device)

    def start(self, piece: int, slot: int) -> Work:
        """Enqueues a piece behind the ones before."""
        with self.stream:
            self._enqueue(piece, slot)
        if self._device.type == "cpu":
            return _Done()
        event = self._torch.Event(device=self._device)
        event.record(self.stream)
        return _EventWork(event)

    def wait_for(self, event: "torch.Event") -> None:
        """Makes what is enqueued from now on wait for an event, such as the engine's compute."""
        self.stream.wait_event(event)

    def close(self) -> None:
        """Waits for what was started."""
        self.stream.synchronize()


class _Done:
    def poll(self) -> TransferState:
        return TransferState.DONE

    def error(self) -> str:
        return ""

    def cancel(self) -> None:
        """Nothing is left to give up."""

    def quiesced(self) -> bool:
        return True


class _EventWork:
    """Kernels that were enqueued cannot be taken back: the slot is quiet when the event is."""

    def __init__(self, event: "torch.Event") -> None:
        self._event = event
        self._is_cancelled = False

    def poll(self) -> TransferState:
        if self._is_cancelled:
            return TransferState.CANCELLED
        return TransferState.DONE if self._event.query() else TransferState.PENDING

    def error(self) -> str:
        return ""

    def cancel(self) -> None:
        self._is_cancelled = self.poll() is not TransferState.DONE

    def quiesced(self) -> bool:
        return self._event.query()


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
