"""What callers of a backend get back. Values, and handles of what is under way."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Generic, Self, TypeVar

from p2p.backend.actions import FetchOutcome, ShortReason
from p2p.backend.fetch_log import Ended
from p2p.backend.pool import SlotBytes
from p2p.backend.slot_copies import on_host
from p2p.errors import ArgumentError, ClosedError
from p2p.kernels import PagedCache, Slot
from p2p.keys import ChunkKey
from p2p.wire.messages import HolderRun, Located

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """What is to be fetched.

    Attributes:
        keys: of consecutive chunks of one prompt, from its first chunk on.
        budget_s: it ends after this time at the latest, with what is verified; by default the
            configured one.
        tenant: on whose behalf.
        request_id: under which it is reported to the controller; one is made up if it is empty.
    """

    keys: Sequence[ChunkKey]
    budget_s: float | None = None
    tenant: str = ""
    request_id: str = ""

    def of_keys(self, keys: Sequence[ChunkKey]) -> "FetchRequest":
        """Returns the request for other keys."""
        return replace(self, keys=keys)


@dataclass(frozen=True, slots=True)
class PutReport:
    """What became of chunks that were stored.

    Attributes:
        num_stored: new here.
        num_present: were here already.
        num_refused: did not fit, since every slot is lent, pinned or in quarantine.
    """

    num_stored: int
    num_present: int
    num_refused: int


@dataclass(frozen=True, slots=True)
class DrainReport:
    """What became of the chunks of an instance that leaves.

    Attributes:
        num_chunks: that were to be given.
        num_kept: of these, peers have now.
        num_peers: peers that took some.
        seconds: that it took.
    """

    num_chunks: int
    num_kept: int
    num_peers: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Hit:
    """Where the longest prefix of some keys is.

    Attributes:
        num_chunks: chunks of the prefix, here or at peers.
        num_local: leading chunks that are here.
        runs: of the chunks behind those, as the directory answered; positions count from
            ``num_local``, holders from ``holders``.
        holders: ids of the instances that hold them.
        reason: why the prefix is not longer.
        request_id: under which this is reported to the controller.
    """

    num_chunks: int
    num_local: int
    runs: tuple[HolderRun, ...]
    holders: tuple[str, ...]
    reason: ShortReason
    request_id: str = ""


def hit_of(answer: object, num_local: int, num_keys: int) -> Hit:
    """Returns what a directory's answer means for keys of which some are here."""
    if not isinstance(answer, Located):
        return Hit(num_local, num_local, (), (), ShortReason.CONTROLLER_SILENT)
    num_chunks = num_local + sum(run.count for run in answer.runs)
    reason = ShortReason.DIRECTORY_PARTIAL if answer.partial else ShortReason.NO_HOLDER
    if num_chunks == num_keys:
        reason = ShortReason.COMPLETE
    holders = tuple(holder.instance for holder in answer.holders)
    return Hit(num_chunks, num_local, answer.runs, holders, reason)


def ended_of_hit(
    hit: Hit, keys: Sequence[ChunkKey], tenant: str, request_id: str, took_s: float
) -> Ended:
    """Returns what is to be remembered of a question where a prompt is."""
    return Ended(
        request=request_id,
        tenant=tenant,
        num_keys=len(keys),
        num_local=hit.num_local,
        num_delivered=hit.num_chunks,
        reason=hit.reason,
        detail="asked only where it is",
        missing=keys[hit.num_chunks] if hit.num_chunks < len(keys) else b"",
        took_s=took_s,
    )


class FetchResult:
    """Chunks in the local pool, pinned until `release`; a context manager.

    Attributes:
        num_chunks: chunks of the verified prefix.
        num_local: how many of them were here before.
        slots: of the pool, in which the chunks lie.
        reason: why there are not more; ``complete`` if there are all.
        detail: the names and numbers behind the reason.
        sources: what each holder contributed, most first.
        seconds: from the call to the outcome.
        phases_s: seconds from the call to each phase.
        request_id: under which this fetch is reported to the controller.
    """

    def __init__(
        self,
        memory: Sequence[Slot],
        outcome: FetchOutcome,
        on_release: Callable[[], None],
    ) -> None:
        self.num_chunks = len(memory)
        self.num_local = min(outcome.num_local, len(memory))
        self.slots = tuple(entry.slot for entry in outcome.entries)
        self.reason = outcome.reason
        self.detail = outcome.detail
        self.sources = tuple(outcome.sources)
        self.seconds = outcome.phases_s["done"]
        self.phases_s = outcome.phases_s
        self.request_id = outcome.request_id
        self._memory: Sequence[Slot] | None = memory
        self._chunks: list[SlotBytes] | None = None
        self._on_release = on_release

    @property
    def chunks(self) -> list[SlotBytes]:
        """The chunks, read-only and in order, on the host; valid until `release`.

        Views of the pool, without a copy; of a pool on a device they are copies.

        Raises:
            ClosedError: after `release`.
        """
        if self._chunks is None or self._memory is None:
            self._chunks = [on_host(slot) for slot in self.memory]
        return self._chunks

    @property
    def memory(self) -> Sequence[Slot]:
        """The slots that hold the chunks, in order, where the pool is; valid until `release`.

        Nobody writes into them.

        Raises:
            ClosedError: after `release`.
        """
        if self._memory is None:
            raise ClosedError("the result was released")
        return self._memory

    @property
    def num_bytes(self) -> int:
        """Bytes that came from peers, as far as they became part of the pool."""
        return sum(source.num_bytes for source in self.sources)

    def scatter(self, cache: PagedCache, block_ids: Sequence[int]) -> None:
        """Copies the chunks into blocks of an engine's paged cache.

        Args:
            cache: the engine's tensors.
            block_ids: for all chunks of the result in token order.

        Raises:
            ArgumentError: not ``num_chunks * cache.blocks_per_chunk`` blocks.
        """
        wanted = self.num_chunks * cache.blocks_per_chunk
        if len(block_ids) != wanted:
            raise ArgumentError(
                "block_ids", len(block_ids), f"{self.num_chunks} chunks take {wanted}"
            )
        if self.num_chunks:
            cache.scatter(self.memory, block_ids)

    def release(self) -> None:
        """Lets the pool evict the chunks again. Idempotent."""
        if self._memory is not None:
            self._memory = self._chunks = None
            self._on_release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"FetchResult(num_chunks={self.num_chunks}, reason={self.reason.value!r})"


class Handle(Generic[T]):
    """Something under way, for engines that poll.

    Args:
        take: returns the result once it is there, else None; raises what went wrong.
        wait: waits for at most so many seconds.
    """

    def __init__(self, take: Callable[[], T | None], wait: Callable[[float], None]) -> None:
        self._take = take
        self._wait = wait
        self._lock = threading.Lock()
        self._result: T | None = None

    def poll(self) -> T | None:
        """Returns the result if it is there; never blocks."""
        with self._lock:
            if self._result is None:
                self._result = self._take()
            return self._result

    def wait(self, timeout_s: float) -> T | None:
        """Returns the result, or None if it is not there within ``timeout_s``."""
        if self.poll() is None:
            self._wait(timeout_s)
        return self.poll()
