"""Gather and scatter between paged KV caches and chunks, and the digest of chunks.

Importing this package does not load torch.
"""

from p2p_kernels.base import Copier, Slot
from p2p_kernels.digest import chunk_digest, leaf_digests, root_digest
from p2p_kernels.dispatch import gather, open_copier, scatter
from p2p_kernels.memory import PageAxes, PageMemory, Tensor, Tensors, split_kv
from p2p_kernels.paged_cache import PagedCache
from p2p_kernels.plan import (
    SKIP_BLOCK,
    BlockIds,
    CopyPlan,
    CopyShape,
    copy_plan,
    copy_shape,
    plan_blocks,
)
from p2p_kernels.registry import Implementation
from p2p_kernels.specs import ChunkSpec, HeadRange, PageSpec

__all__ = [
    "SKIP_BLOCK",
    "BlockIds",
    "ChunkSpec",
    "Copier",
    "CopyPlan",
    "CopyShape",
    "HeadRange",
    "Implementation",
    "PageAxes",
    "PageMemory",
    "PageSpec",
    "PagedCache",
    "Slot",
    "Tensor",
    "Tensors",
    "chunk_digest",
    "copy_plan",
    "copy_shape",
    "gather",
    "leaf_digests",
    "open_copier",
    "plan_blocks",
    "root_digest",
    "scatter",
    "split_kv",
]
