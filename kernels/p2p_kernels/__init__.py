"""Gather and scatter between paged KV caches and chunks, and the digest of chunks.

Importing this package does not load torch.
"""

from p2p_kernels.base import Copier, Slot
from p2p_kernels.device_digest import MIN_LEAF_BYTES, LeafDigester, open_leaf_digester
from p2p_kernels.devices import (
    Detected,
    DeviceEvent,
    DeviceKind,
    DeviceName,
    DeviceStream,
    PinnedSpan,
    allocate_host,
    choose_device,
    current_stream,
    devices_here,
    open_stream,
    pin_span,
)
from p2p_kernels.digest import chunk_digest, leaf_digests, root_digest
from p2p_kernels.dispatch import gather, open_copier, scatter
from p2p_kernels.head_slices import HeadSlice, head_slices
from p2p_kernels.layers import split_layers
from p2p_kernels.memory import PageAxes, PageMemory, Tensor, Tensors, host_bytes, split_kv
from p2p_kernels.paged_cache import PagedCache
from p2p_kernels.plan import (
    SKIP_BLOCK,
    BlockIds,
    CopyPlan,
    CopyShape,
    copy_plan,
    copy_shape,
    int_array,
    plan_blocks,
)
from p2p_kernels.registry import Implementation
from p2p_kernels.settings import KernelSettings
from p2p_kernels.specs import ChunkSpec, HeadRange, PageSpec
from p2p_kernels.token_plan import token_plan, token_slots

__all__ = [
    "MIN_LEAF_BYTES",
    "SKIP_BLOCK",
    "BlockIds",
    "ChunkSpec",
    "Copier",
    "CopyPlan",
    "CopyShape",
    "Detected",
    "DeviceEvent",
    "DeviceKind",
    "DeviceName",
    "DeviceStream",
    "HeadRange",
    "HeadSlice",
    "Implementation",
    "KernelSettings",
    "LeafDigester",
    "PageAxes",
    "PageMemory",
    "PageSpec",
    "PagedCache",
    "PinnedSpan",
    "Slot",
    "Tensor",
    "Tensors",
    "allocate_host",
    "choose_device",
    "chunk_digest",
    "copy_plan",
    "copy_shape",
    "current_stream",
    "devices_here",
    "gather",
    "head_slices",
    "host_bytes",
    "int_array",
    "leaf_digests",
    "open_copier",
    "open_leaf_digester",
    "open_stream",
    "pin_span",
    "plan_blocks",
    "root_digest",
    "scatter",
    "split_kv",
    "split_layers",
    "token_plan",
    "token_slots",
]
