"""Drains: an instance gives what it has to peers before it leaves, as `P2PBackend.drain` does."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from p2p.backend.index import Index, IndexEntry
from p2p.keys import ChunkKey

if TYPE_CHECKING:
    from p2p.backend.handover import Handover
    from tests.sim.instance import SimInstance

_LOOK_S = 0.02


class Drain:
    """One drain.

    Args:
        instance: that is about to leave.
        limit_s: what is not given by then is lost with it.
        then: is done when it is over.

    Attributes:
        keys: of the sound whole prefixes that are here at its beginning.
        is_over: nothing more comes of it.
    """

    def __init__(self, instance: "SimInstance", limit_s: float, then: Callable[[], None]) -> None:
        self.keys = sound_prefixes(instance.core.index, instance.pool.rotten)
        self.is_over = False
        self._instance = instance
        self._then = then
        now_s = instance.now_s()
        reader = instance.engine.reader
        self._handover: Handover = reader.giving.drain(now_s + limit_s, now_s)
        instance.engine.take(_look)
        self._look_again()

    def _look_again(self) -> None:
        self._instance.later(_LOOK_S, "caller", "looks after its drain", self._look)

    def _look(self) -> None:
        if not self._handover.is_over(self._instance.now_s()):
            self._look_again()
            return
        self.is_over = True
        work = self._instance.world.work
        work["drains"] += 1
        work["drains_with_kept_chunks"] += self._handover.num_kept > 0
        self._then()


def sound_prefixes(index: Index, rotten: set[int]) -> set[ChunkKey]:
    """Returns the chunks that are here with everything before them, and nothing of it rotten."""
    return {entry.key for entry in index if _is_sound(index, entry, rotten)}


def _is_sound(index: Index, entry: IndexEntry, rotten: set[int]) -> bool:
    here: IndexEntry | None = entry
    while here is not None and not here.is_damaged and here.slot not in rotten:
        if here.parent is None:
            return True
        here = index.get(here.parent)
    return False


def _look() -> None:
    """The engine's turn does the rest."""
