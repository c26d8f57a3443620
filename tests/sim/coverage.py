"""Which faults met fetches in which phases, what was done, and what of that is too rare."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from p2p.backend.actions import Phase
from tests.sim.transfers import Fate

if TYPE_CHECKING:
    from tests.sim.instance import Caller, SimInstance
    from tests.sim.world import World

BEFORE_LOCATE = "before_locate"
PHASES = (BEFORE_LOCATE, *(phase.value for phase in Phase))
LEAST = 100  # of every cell, over the seeds of a CI run
NUM_CI_SEEDS = 2000
_SKEW = 0.01

AT_ANY = ("crash", "stop", "cut", "cut_in", "cut_out")
AT_INSTANCES = ("leave", "drain", "rot", "fill")
IN_NETWORK = ("connection", "delay", "double", "loss", "reorder")
CONDITIONS = ("skewed_clocks", "bytes_differ", "pool_full")
FAULTS = (
    *(f"{kind}_{role}" for kind in AT_ANY for role in ("reader", "holder", "controller")),
    *(f"{kind}_{role}" for kind in AT_INSTANCES for role in ("reader", "holder")),
    *IN_NETWORK,
    *(f"read_{fate.value}" for fate in Fate if fate is not Fate.NONE),
    *CONDITIONS,
)

WORK = (
    "chunks_hedged",
    "readers_sent_elsewhere",
    "copies_asked_for",
    "drains_with_kept_chunks",
    "fetches_left_to_compute",
    "moves",
    "order_took",
    "order_gave",
    "order_pinned",
    "order_evicted",
    "order_dropped",
    "links_begun_ahead",
    "holder_left_link_slow",
)

Cells = Counter[tuple[str, str]]
At = tuple["Caller", str] | None


def table(cells: Mapping[tuple[str, str], int]) -> list[str]:
    """Returns the lines of a table fault by phase."""
    lines = [f"{'fault':18}" + "".join(f"{phase:>15}" for phase in PHASES)]
    for fault in FAULTS:
        counts = "".join(f"{cells.get((fault, phase), 0):15}" for phase in PHASES)
        lines.append(f"{fault:18}{counts}")
    return lines


def thin_cells(cells: Mapping[tuple[str, str], int], least: int = LEAST) -> list[str]:
    """Returns the combinations that happened less often than that."""
    pairs = [(fault, phase) for fault in FAULTS for phase in PHASES]
    return [f"{fault} {phase}" for fault, phase in pairs if cells.get((fault, phase), 0) < least]


def rare_work(work: Mapping[str, int], least: int = LEAST) -> list[str]:
    """Returns what was done less often than that."""
    return [f"{name} {work.get(name, 0)}" for name in WORK if work.get(name, 0) < least]


class Coverage:
    """Counts which faults met which phases.

    Args:
        world: with the fetches.
    """

    def __init__(self, world: "World") -> None:
        self.cells: Cells = Cells()
        self._world = world

    def hit(self, fault: str, reader: str) -> None:
        """A fault met the fetches of one instance."""
        instance = self._world.instances.get(reader)
        for caller in instance.callers if instance is not None and instance.is_up else ():
            self.cells[fault, caller.phase] += 1

    def hit_process(self, fault: str, victim: str, at: At = None) -> None:
        """A fault met a process, in each of its roles; at a phase that a fetch just reached."""
        for name, instance in self._world.instances.items():
            if not instance.is_up:
                continue
            for caller in instance.callers:
                role = _role(victim, name, caller)
                if role:
                    phase = at[1] if at and at[0] is caller else caller.phase
                    self.cells[f"{fault}_{role}", phase] += 1

    def note_conditions(self, reader: "SimInstance", caller: "Caller") -> None:
        """Counts what holds while a fetch reaches a phase."""
        conditions = {
            "skewed_clocks": self._has_skew(reader, caller),
            "bytes_differ": self._has_differing_bytes(caller),
            "pool_full": reader.core.slots.num_free == 0,
        }
        for name, holds in conditions.items():
            self.cells[name, caller.phase] += holds

    def _has_skew(self, reader: "SimInstance", caller: "Caller") -> bool:
        """True if a clock that the fetch depends on goes faster or slower than the reader's."""
        rates = [self._world.instances[name].rate for name in caller.holders]
        rates = rates or [self._world.controller.rate]
        return any(abs(rate - reader.rate) > _SKEW for rate in rates)

    def _has_differing_bytes(self, caller: "Caller") -> bool:
        """True if two instances keep different valid bytes under a key of the fetch."""
        instances = [i for i in self._world.instances.values() if i.is_up]
        for key in caller.keys:
            contents = {i.content_under(key) for i in instances} - {None}
            if len(contents) > 1:
                return True
        return False


def _role(victim: str, reader: str, caller: "Caller") -> str:
    if victim == "controller":
        return "controller"
    if victim == reader:
        return "reader"
    return "holder" if victim in caller.holders else ""
