"""The coordinator of an instance: index, leases, fetches, and the service for its peers."""

from p2p.backend.actions import Phase, ShortReason, SourceTally
from p2p.backend.backend import P2PBackend
from p2p.backend.engine_parts import Observer
from p2p.backend.results import DrainReport, FetchResult, Handle, Hit, PutReport
from p2p.backend.settings import BackendConfig
from p2p.backend.sources import ArraySource, ChunkSource, PagedSource

__all__ = [
    "ArraySource",
    "BackendConfig",
    "ChunkSource",
    "DrainReport",
    "FetchResult",
    "Handle",
    "Hit",
    "Observer",
    "P2PBackend",
    "PagedSource",
    "Phase",
    "PutReport",
    "ShortReason",
    "SourceTally",
]
