"""The end of a run: an instance drains with time enough, while readers come, leaves, comes again.

If its peers have room, they keep nearly all that it had.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tests.sim.clock import require
from tests.sim.drains import Drain
from tests.sim.faults import rot
from tests.sim.workload import TENANTS

if TYPE_CHECKING:
    from tests.sim.instance import SimInstance
    from tests.sim.world import World

_ADVERTISE_S = 0.5
_DRAIN_S = 20.0
_ROTTEN = 0.25  # that who leaves has damaged chunks
_ROTTEN_SHARE = 0.08
_SPARE_CHUNKS = 16  # so many more than it is given, a peer must be able to hold
_LEAST_KEPT = 0.9


def see_off(world: "World") -> None:
    """Chooses somebody who leaves, and looks what is left of its chunks."""
    draw, instances = world.clock.random, list(world.instances.values())
    leaver = draw.choice([draw.choice(instances), min(instances, key=lambda i: i.num_slots)])
    others = [other for other in instances if other is not leaver]
    for _ in range(draw.randint(1, 8)):
        leaver.put(world.prompts.other(draw.randint(2, 10)), draw.choice(TENANTS))
    world.run_for(_ADVERTISE_S)
    is_rotten = draw.random() < _ROTTEN
    if is_rotten:
        rot(leaver, _ROTTEN_SHARE)
    senders = {sender for o in others for sender, _, _ in o.engine.reader.taking.marks}
    drain = Drain(leaver, _DRAIN_S, leaver.leave)
    world.crowd(others, *world.prompts.choose(), 1.0)
    end_s = world.clock.now_s + _DRAIN_S + 1
    while not drain.is_over and world.clock.now_s < end_s:
        world.run_for(0.1)
    require(drain.is_over, f"the drain of {leaver.name} has no end")
    if all(other.num_slots >= len(drain.keys) + _SPARE_CHUNKS for other in others):
        world.work["drains_with_room"] += 1
        circumstances = {
            "some chunks were damaged": is_rotten,
            "it took others over": any(leaver.core.index.get(key) is None for key in drain.keys),
            "it had asked for copies": leaver.name in senders,
        }
        _check(drain, others, [name for name, holds in circumstances.items() if holds])
    world.run_for(_ADVERTISE_S)
    leaver.start()


def _check(drain: Drain, others: Sequence["SimInstance"], circumstances: list[str]) -> None:
    kept = {key for other in others for key in drain.keys if other.core.index.get(key)}
    numbers = f"{len(kept)} of {len(drain.keys)}"
    is_enough = len(kept) >= _LEAST_KEPT * len(drain.keys)
    why = ", ".join(circumstances) or "nothing else was wrong"
    require(is_enough, f"a drain had time, and peers had room, but kept {numbers}; {why}")
