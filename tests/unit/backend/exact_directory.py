"""A directory that looks into every instance, so that it is never wrong."""

from collections.abc import Mapping

from p2p.backend.instance import InstanceCore
from p2p.keys import split_keys
from p2p.wire.messages import HolderRun, Locate, Located
from tests.unit.backend.builders import holder_of


def locate(
    cores: Mapping[str, InstanceCore], question: Locate, *, is_partial: bool = False
) -> Located:
    """Returns the longest prefix that somebody holds, as runs of equal holders."""
    runs: list[tuple[int, int, tuple[int, ...]]] = []
    for position, key in enumerate(split_keys(question.keys, question.key_bytes)):
        numbers = tuple(
            number
            for number, core in enumerate(cores.values())
            if (entry := core.index.get(key)) and entry.is_readable_by(question.tenant)
        )
        if not numbers:
            break
        if runs and runs[-1][2] == numbers:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1, numbers)
        else:
            runs.append((position, 1, numbers))
    return Located(
        epoch=1,
        partial=is_partial,
        holders=tuple(holder_of(core) for core in cores.values()),
        runs=tuple(HolderRun(start=start, count=count, holders=who) for start, count, who in runs),
    )
