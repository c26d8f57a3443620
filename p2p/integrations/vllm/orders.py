"""What crosses between the coordinator (vLLM's scheduler) and the ranks (vLLM's workers).

Once per step each way, in vLLM's own messages: slots, block ids and numbers, never keys or bytes of
KV. Pure values. No I/O.
"""

import msgspec

from p2p.agent.shared_arena import ArenaFile
from p2p.layout import Layout


class RankShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a worker found when vLLM gave it the KV cache.

    Attributes:
        rank: tensor-parallel rank.
        shard_bytes: of one block over all layers, on this rank.
        num_heads: KV heads here, each one span of a block; 0 if blocks can only move whole.
        num_layers: layers with a KV cache.
        byte_order: of the cache: name of vLLM's layout, kernel backend and device.
        isa: instruction set that packs the blocks; empty where that does not depend on it.
        refusal: why this cache cannot be shared; empty if it can.
    """

    rank: int
    shard_bytes: int
    num_heads: int
    num_layers: int
    byte_order: str
    isa: str
    refusal: str = ""


class PoolOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The pool to map. Sent with every step that has copies, used once.

    Attributes:
        file: where it is.
        slot_bytes: of a slot, with what all ranks have of a chunk.
        layout: of the chunks.
        num_ranks: that share it.
    """

    file: ArenaFile
    slot_bytes: int
    layout: Layout
    num_ranks: int


class LoadOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Copy chunks out of the pool into a request's blocks.

    Attributes:
        request: vLLM's id of it.
        slots: of the chunks.
        blocks: of the chunks in token order; -1 leaves out a block that the request has already.
    """

    request: str
    slots: tuple[int, ...]
    blocks: tuple[int, ...]


class SaveOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Copy chunks out of a request's blocks into the pool, once this step has computed them.

    Attributes:
        number: of the save; confirmed with it.
        request: vLLM's id of it.
        slots: of the chunks.
        blocks: of the chunks in token order.
    """

    number: int
    request: str
    slots: tuple[int, ...]
    blocks: tuple[int, ...]


class StepOrders(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the workers have to do in one step.

    Attributes:
        loads: to start; each is reported once, whatever became of its request.
        saves: to start after the step's computation.
        preempted: requests whose blocks are given away in this step: their saves must be over
            before anything is computed.
        awaited: requests that have ended and whose blocks are kept for saves: to be reported once.
        pool: where; None if nothing is copied in this step.
        timed: number of a step whose end is of interest; 0 if it is not.
    """

    loads: tuple[LoadOrder, ...] = ()
    saves: tuple[SaveOrder, ...] = ()
    preempted: tuple[str, ...] = ()
    awaited: tuple[str, ...] = ()
    pool: PoolOrder | None = None
    timed: int = 0


class SaveDone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rank has copied what a `SaveOrder` named, or has failed.

    Attributes:
        number: of the save.
        rank: that reports.
        is_stored: false if the slots hold nothing of use.
    """

    number: int
    rank: int
    is_stored: bool


class RankReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of orders since the last report, of one rank or several.

    Attributes:
        saves: that are over.
        loads: requests whose load within a step is over; each once per rank.
        timed: steps whose end was of interest.
        num_load_failures: loads that did not reach the engine's blocks.
        load_bytes: copied out of the pool.
        save_bytes: copied into the pool.
        load_s: seconds that took, summed over loads.
        save_s: seconds that took, summed over saves.
    """

    saves: tuple[SaveDone, ...] = ()
    loads: tuple[str, ...] = ()
    timed: tuple[int, ...] = ()
    num_load_failures: int = 0
    load_bytes: int = 0
    save_bytes: int = 0
    load_s: float = 0.0
    save_s: float = 0.0

    def plus(self, other: "RankReport") -> "RankReport":
        """Returns both reports as one."""
        return RankReport(
            saves=self.saves + other.saves,
            loads=self.loads + other.loads,
            timed=self.timed + other.timed,
            num_load_failures=self.num_load_failures + other.num_load_failures,
            load_bytes=self.load_bytes + other.load_bytes,
            save_bytes=self.save_bytes + other.save_bytes,
            load_s=self.load_s + other.load_s,
            save_s=self.save_s + other.save_s,
        )
