"""The coordinator of an instance: index, leases, fetches, and the service for its peers."""

from p2p.backend.actions import Phase, ShortReason, SourceTally
from p2p.backend.backend import P2PBackend
from p2p.backend.cache_copies import CacheDescription
from p2p.backend.engine_cache import EngineCache
from p2p.backend.engine_parts import Observer
from p2p.backend.loading import Loading, LoadOrder, LoadReport
from p2p.backend.results import DrainReport, FetchRequest, FetchResult, Handle, Hit, PutReport
from p2p.backend.saving import Saving
from p2p.backend.settings import BackendConfig
from p2p.backend.sources import ArraySource, ChunkSource, PagedSource

__all__ = [
    "ArraySource",
    "BackendConfig",
    "CacheDescription",
    "ChunkSource",
    "DrainReport",
    "EngineCache",
    "FetchRequest",
    "FetchResult",
    "Handle",
    "Hit",
    "LoadOrder",
    "LoadReport",
    "Loading",
    "Observer",
    "P2PBackend",
    "PagedSource",
    "Phase",
    "PutReport",
    "Saving",
    "ShortReason",
    "SourceTally",
]
