"""CUDA: one C++ source for NVIDIA, AMD and Hygon, compiled where it runs.

``csrc/paged_copy.cu`` copies and ``csrc/digest.cu`` digests; CuPy compiles them for the device at
the first launch, by NVRTC or hiprtc. A launch copies all planes of all chunks of a call, in words
of up to 16 bytes. Calls are ordered on torch's current stream. Who launches is passed in, so that
the same path runs on the host in tests, with the source compiled by a C++ compiler.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from p2p_kernels.base import Slot
from p2p_kernels.batches import Batch, gather_batches, on_device, scatter_batches
from p2p_kernels.cupy_launcher import CupyLauncher
from p2p_kernels.device_digest import check_leaves
from p2p_kernels.launch import THREADS, Argument, KernelShape, Launcher
from p2p_kernels.memory import PageMemory
from p2p_kernels.plan import CopyPlan, CopyShape
from p2p_kernels.torch_kernels import as_tensor

WORDS_PER_THREAD = 4

_LAYOUT_FIELDS = (
    *("page_start", "page_block", "page_outer", "page_inner"),
    *("chunk_start", "chunk_plane", "chunk_block", "chunk_outer", "chunk_inner"),
)
_LAYOUT = np.dtype(
    [(name, np.int64) for name in _LAYOUT_FIELDS]
    + [(name, np.uint32) for name in ("blocks", "outer", "inner", "words_per_row")]
)


class CudaCopier:
    """Copies on an NVIDIA or AMD device; slots elsewhere go through memory there.

    Raises:
        PluginMissingError: there is no launcher, and CuPy isn't installed or finds no device.
    """

    name = "cuda"

    def __init__(self, memory: PageMemory, launcher: Launcher | None = None) -> None:
        self.memory = memory
        self._device = torch.device(memory.spec.device)
        self._launcher = launcher or CupyLauncher(self._device)
        self._planes = on_device(memory.spec.planes, self._device)
        self._prepared: tuple[CopyShape | None, KernelShape | None] = (None, None)

    def gather(self, plan: CopyPlan, slots: Sequence[Slot]) -> None:
        """See `Copier.gather`. Returns after the copy for slots on the host."""
        shape = self._kernel_shape(plan.shape)
        for batch in gather_batches(plan, slots, self._device):
            self._launch("paged_gather", shape, batch)

    def scatter(self, plan: CopyPlan, slots: Sequence[Slot]) -> None:
        """See `Copier.scatter`."""
        shape = self._kernel_shape(plan.shape)
        for batch in scatter_batches(plan, slots, self._device):
            self._launch("paged_scatter", shape, batch)

    def _launch(self, kernel: str, shape: KernelShape, batch: Batch) -> None:
        words = shape.words_per_plane(batch.access_bytes)
        grid = (
            -(-words // (THREADS * WORDS_PER_THREAD)),
            shape.copy.chunk.num_planes,
            batch.num_chunks,
        )
        arguments = (
            self._planes.data_ptr(),
            batch.slots.data_ptr(),
            batch.block_ids.data_ptr(),
            pack_layout(shape, batch.access_bytes),
        )
        self._launcher.launch(f"{kernel}_{batch.access_bytes}", grid, arguments)

    def _kernel_shape(self, copy: CopyShape) -> KernelShape:
        """Returns a shape as numbers; the last one is kept, as nearly all calls share it."""
        known, shape = self._prepared
        if shape is None or known is not copy:
            shape = KernelShape.of(copy)
            self._prepared = (copy, shape)
        return shape


class CudaDigester:
    """Digests leaves on a device; see `LeafDigester`."""

    def __init__(self, device: torch.device, launcher: Launcher | None = None) -> None:
        self._device = device
        self._launcher = launcher or CupyLauncher(device)

    def leaf_digests(self, slots: Sequence[Slot], leaf_bytes: int) -> torch.Tensor:
        """See `LeafDigester.leaf_digests`."""
        chunks = [as_tensor(slot) for slot in slots]
        per_chunk = check_leaves(chunks, leaf_bytes, self._device)
        leaves, blocks = len(chunks) * per_chunk, (leaf_bytes - 1) // 1024
        addresses = [chunk.data_ptr() for chunk in chunks]
        at = on_device(addresses, self._device)
        scratch = torch.empty(leaves * (blocks + 1) * 8, dtype=torch.int64, device=self._device)
        digests = torch.empty(leaves, dtype=torch.int64, device=self._device)
        width = 8 if math.gcd(8, leaf_bytes, *addresses) == 8 else 1
        sums, lanes = scratch.data_ptr(), scratch[leaves * blocks * 8 :].data_ptr()
        tail = (np.uint32(per_chunk), leaf_bytes)
        if blocks:
            count = leaves * blocks * 8
            self._launch(f"digest_sums_{width}", count, (at.data_ptr(), sums, count, *tail))
        count = leaves * 8
        self._launch(f"digest_lanes_{width}", count, (at.data_ptr(), sums, lanes, count, *tail))
        self._launch("digest_merge", leaves, (lanes, digests.data_ptr(), leaves, leaf_bytes))
        return digests.view(len(chunks), per_chunk)

    def _launch(self, kernel: str, threads: int, arguments: Sequence[Argument]) -> None:
        self._launcher.launch(kernel, (-(-threads // THREADS), 1, 1), arguments)


def pack_layout(shape: KernelShape, access_bytes: int) -> npt.NDArray[np.void]:
    """Returns the record ``CopyLayout`` of ``csrc/paged_copy.cu``."""
    copy, outer, inner = shape.copy, shape.outer, shape.inner
    page = (copy.page_start, copy.blocks.page_stride, outer.page_stride, inner.page_stride)
    chunk = (copy.chunk_start, copy.chunk.stride_plane, copy.blocks.chunk_stride)
    steps = (outer.chunk_stride, inner.chunk_stride)
    sizes = (copy.blocks.size, outer.size, inner.size, copy.run_bytes // access_bytes)
    return np.array([(*page, *chunk, *steps, *sizes)], _LAYOUT)
