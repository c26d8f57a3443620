"""Watches that chunks which were moved go only while their new holder keeps them."""

from typing import TYPE_CHECKING

from tests.sim.clock import require

if TYPE_CHECKING:
    from p2p.backend.parting import _Asked, _Parting
    from p2p.wire.messages import LeaseGranted
    from tests.sim.instance import SimInstance


def watch_partings(instance: "SimInstance") -> None:
    """Looks at the target whenever a start of an instance drops chunks for the sake of a move."""
    partings = instance.engine.reader.partings
    part, index = partings._on_grant, instance.core.index

    def watched(parting: "_Parting", asked: "_Asked", answer: "LeaseGranted", now_s: float) -> None:
        here = [key for key in asked.keys if index.get(key) is not None]
        part(parting, asked, answer, now_s)
        gone = [key for key in here if index.get(key) is None]
        instance.world.work["parted"] += len(gone)
        target = instance.world.instances[asked.holder.instance]
        if target.is_up and target.incarnation == asked.holder.incarnation:
            entries = [target.core.index.get(key) for key in gone]
            is_kept = all(entry is not None and entry.num_pins for entry in entries)
            require(is_kept, "chunks were dropped that their new holder does not keep")

    partings._on_grant = watched  # type: ignore[method-assign]
