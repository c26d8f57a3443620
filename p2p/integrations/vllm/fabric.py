"""The fabric as the coordinator uses it, and that over a real backend.

The coordinator's calls never block: what takes long is done on threads of the backend, and polled.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from p2p.backend import FetchResult, Handle, P2PBackend
from p2p.backend.shared_pool import Acquired
from p2p.backend.store import Placement
from p2p.keys import ChunkKey

if TYPE_CHECKING:
    from concurrent.futures import Future

_GRACE_S = 5.0  # a fetch ends by its budget; what comes later is a fault, and let go


class Fabric(Protocol):
    """What the coordinator asks of the fabric. Nothing here blocks."""

    def begin_fetch(
        self, keys: Sequence[ChunkKey], budget_s: float, request_id: str
    ) -> Handle[FetchResult]:
        """Starts to bring the longest prefix of some keys into the pool."""
        ...

    def abandon(self, handle: Handle[FetchResult]) -> None:
        """Nobody wants a fetch any more: its chunks are let go when it ends."""
        ...

    def acquire(self, keys: Sequence[ChunkKey], parent: ChunkKey | None) -> Acquired:
        """Returns slots for the chunks that are not here, as far as there is room."""
        ...

    def commit(self, placements: Sequence[Placement]) -> "Future[None]":
        """Starts to take in chunks whose slots are filled."""
        ...

    def release(self, placements: Sequence[Placement]) -> None:
        """Gives back slots that nobody writes any more."""
        ...

    def report_prefill(self, num_tokens: int, seconds: float) -> None:
        """Tells how long the engine took to compute so many tokens of prompts."""
        ...


class BackendFabric:
    """A `Fabric` over a running backend.

    Args:
        backend: with shared pool memory.
    """

    def __init__(self, backend: P2PBackend) -> None:
        self._backend = backend
        self._budget_s = backend.config.budget_s
        self._commits = ThreadPoolExecutor(1, thread_name_prefix="p2p-commit")
        self._waits = ThreadPoolExecutor(1, thread_name_prefix="p2p-abandon")

    def begin_fetch(
        self, keys: Sequence[ChunkKey], budget_s: float, request_id: str
    ) -> Handle[FetchResult]:
        """See `Fabric`."""
        return self._backend.submit_fetch(keys, budget_s, request_id=request_id)

    def abandon(self, handle: Handle[FetchResult]) -> None:
        """See `Fabric`."""
        self._waits.submit(self._let_go, handle)

    def acquire(self, keys: Sequence[ChunkKey], parent: ChunkKey | None) -> Acquired:
        """See `Fabric`."""
        return self._backend.shared_pool.acquire(keys, parent)

    def commit(self, placements: Sequence[Placement]) -> "Future[None]":
        """See `Fabric`; digests are taken on a thread."""
        return self._commits.submit(self._backend.shared_pool.commit, placements)

    def release(self, placements: Sequence[Placement]) -> None:
        """See `Fabric`."""
        self._backend.shared_pool.release(placements)

    def report_prefill(self, num_tokens: int, seconds: float) -> None:
        """See `Fabric`."""
        self._backend.report_prefill(num_tokens, seconds)

    def close(self) -> None:
        """Waits for what was started. The backend stays open."""
        self._commits.shutdown(wait=True)
        self._waits.shutdown(wait=True)

    def _let_go(self, handle: Handle[FetchResult]) -> None:
        result = handle.wait(self._budget_s + _GRACE_S)
        if result is not None:
            result.release()
