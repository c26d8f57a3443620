"""An engine's paged cache as the backend uses it: whole chunks, from and to pool slots."""

from collections.abc import Sequence

from p2p.layout import ByteOrder, Layout
from p2p_kernels.adaptive import AdaptiveCopier
from p2p_kernels.base import Slot
from p2p_kernels.costs import Direction
from p2p_kernels.dispatch import gather, open_copier, scatter
from p2p_kernels.memory import PageMemory, Tensors
from p2p_kernels.plan import BlockIds, CopyPlan, CopyShape, copy_shape, plan_blocks
from p2p_kernels.registry import Implementation
from p2p_kernels.settings import KernelSettings
from p2p_kernels.specs import ChunkSpec, HeadRange, PageSpec


class PagedCache:
    """Gathers chunks out of an engine's tensors and scatters them back.

    Keeps the tensors alive. With all memory on the host, calls are done when they return, release
    the interpreter lock while bytes move, and may come from several threads; on a device they are
    ordered on the current stream. Who copies sees to it that nobody writes what is read.

    Args:
        memory: the engine's tensors.
        chunk: how a chunk lies in a slot.
        implementation: forces the implementation.
        settings: by default from the environment; see `KernelSettings`. Opening a cache may spend
            ``calibration_budget_s`` (or the device's) on measuring what nobody has measured here.

    Raises:
        ArgumentError: pages and chunks do not fit; or the implementation isn't for this device.
        PluginMissingError: the implementation needs a package that isn't installed.
    """

    def __init__(
        self,
        memory: PageMemory,
        chunk: ChunkSpec,
        implementation: Implementation = Implementation.AUTO,
        settings: KernelSettings | None = None,
    ) -> None:
        self._memory = memory
        self._chunk = chunk
        whole = HeadRange(0, 0, min(memory.spec.num_heads, chunk.num_heads))
        has_all = memory.spec.num_heads == chunk.num_heads
        self._shape_by_heads = {whole: copy_shape(memory.spec, chunk, whole)}
        self._all_heads = whole if has_all else None
        shape = self._shape_by_heads[whole]
        self._copier = open_copier(memory, implementation, settings, shape)

    @classmethod
    def for_layout(
        cls,
        tensors: Tensors,
        axes: str,
        layout: Layout,
        implementation: Implementation = Implementation.AUTO,
        settings: KernelSettings | None = None,
    ) -> "PagedCache":
        """Wraps the cache of one rank of an instance.

        Args:
            tensors: see `PageMemory.of_tensors`.
            axes: a letter for each axis of a tensor, such as `PageAxes.KV_FIRST_NHD`.
            layout: what the tensors must agree with.
            implementation: forces the implementation.
            settings: see the class.

        Raises:
            ArgumentError: the tensors do not have these axes, or are not what the layout says.
        """
        layout.check()
        memory = PageMemory.of_tensors(tensors, axes)
        if layout.byte_order is ByteOrder.CANONICAL:
            memory.check_dtype(layout.kv_dtype)
        return cls(memory, ChunkSpec.for_layout(layout, memory.spec), implementation, settings)

    def choices(self) -> dict[str, str]:
        """Returns the implementations by name, with what each is used for so far."""
        if isinstance(self._copier, AdaptiveCopier):
            return self._copier.choices()
        return {self._copier.name: "is the one that was asked for"}

    @property
    def page(self) -> PageSpec:
        """Where the pages lie."""
        return self._memory.spec

    @property
    def chunk(self) -> ChunkSpec:
        """How a chunk lies in a slot."""
        return self._chunk

    @property
    def blocks_per_chunk(self) -> int:
        """Block ids that a chunk takes."""
        return self._chunk.chunk_tokens // self._memory.spec.block_tokens

    @property
    def implementation(self) -> Implementation:
        """The implementation that gathers a chunk; copies of other sizes may take another."""
        copier = self._copier
        if isinstance(copier, AdaptiveCopier):
            (shape, *_) = self._shape_by_heads.values()
            one = plan_blocks(shape, [0] * shape.blocks.size)
            copier = copier.choice(one, Direction.GATHER)
        return Implementation(copier.name)

    @property
    def struck(self) -> dict[str, str]:
        """Implementations that copied wrongly here and are not used any more, and why."""
        return dict(self._copier.struck) if isinstance(self._copier, AdaptiveCopier) else {}

    def plan(self, block_ids: BlockIds, heads: HeadRange | None = None) -> CopyPlan:
        """Returns the plan for some chunks; see `copy_plan`."""
        return plan_blocks(self._shape(heads), block_ids)

    def gather(
        self, block_ids: BlockIds, slots: Sequence[Slot], heads: HeadRange | None = None
    ) -> None:
        """Copies chunks out of the cache into slots.

        Args:
            block_ids: the blocks of all chunks in token order, flat or one row per chunk; a block
                may be in several chunks.
            slots: one per chunk, ``chunk.chunk_bytes`` of uint8 each.
            heads: which heads; all, if left out. Bytes of other heads stay as they are.

        Raises:
            ArgumentError: what does not fit, by name and value; nothing was copied.
        """
        gather(self.plan(block_ids, heads), slots, self._copier)

    def scatter(
        self, slots: Sequence[Slot], block_ids: BlockIds, heads: HeadRange | None = None
    ) -> None:
        """Copies chunks out of slots into blocks of the cache.

        Args:
            slots: one per chunk, ``chunk.chunk_bytes`` of uint8 each.
            block_ids: the blocks of all chunks in token order, each at most once, flat or one row
                per chunk; `SKIP_BLOCK` leaves a block alone that the engine has already.
            heads: which heads; all, if left out. Other heads of a block stay as they are.

        Raises:
            ArgumentError: what does not fit, by name and value; nothing was copied.
        """
        scatter(self.plan(block_ids, heads), slots, self._copier)

    def _shape(self, heads: HeadRange | None) -> CopyShape:
        wanted = self._all_heads if heads is None else heads
        known = self._shape_by_heads.get(wanted) if wanted is not None else None
        if known is not None:
            return known
        shape = copy_shape(self._memory.spec, self._chunk, wanted)
        return self._shape_by_heads.setdefault(shape.heads, shape)
