"""Which implementations can be chosen from, and what is known of their costs.

Costs are measured where a cache is opened, which is before the first request, within the budget of
the settings; and once per machine, since they are kept in a file. What takes seconds to start
(on the host, torch that nobody loaded; torch.compile) is measured by ``python -m p2p_kernels
--measure``.
"""

import logging
import sys
import time

from p2p.errors import LocalError
from p2p_kernels.adaptive import AdaptiveCopier, Candidate, CostKey
from p2p_kernels.base import Copier
from p2p_kernels.calibration import Calibration
from p2p_kernels.cost_file import CostFile, Costs
from p2p_kernels.costs import Direction, LayoutKind, layout_kind
from p2p_kernels.machine import device_key
from p2p_kernels.memory import PageMemory
from p2p_kernels.plan import CopyShape
from p2p_kernels.registry import ENTRIES, Implementation, create
from p2p_kernels.settings import KernelSettings, cost_path

_log = logging.getLogger(__name__)
_FEWEST_TO_CHOOSE_FROM = 2


def open_adaptive(
    memory: PageMemory, settings: KernelSettings, shape: CopyShape | None
) -> AdaptiveCopier:
    """Returns a copier that chooses among all that can run at once.

    Args:
        memory: the paged cache.
        settings: whether costs are measured here, how long at most, and where they are kept.
        shape: what most copies will be; costs of its kind are measured if nobody has.
    """
    file, device = CostFile(cost_path(settings)), memory.spec.device
    copiers = _quick_copiers(memory)
    if shape is not None and settings.calibration == "budget":
        budget_s = settings.budget_s(device)
        _measure_missing(file, list(copiers), layout_kind(shape), device, budget_s)
    known = file.load_all(device_key(device))
    for name in _measured_slow_ones(known):
        if device != "cpu" or _is_loaded(name):
            _add(copiers, memory, name)
    candidates = []
    for name, copier in copiers.items():
        by_key = {key: costs[name] for key, costs in known.items() if name in costs}
        candidates.append(Candidate(copier, ENTRIES[name].seed, by_key))
    return AdaptiveCopier(memory, candidates)


def directions(device: str) -> list[Direction]:
    """Returns the directions that differ on a device."""
    return [way for way in Direction if device != "cpu" or way.is_on_device]


def _measure_missing(
    file: CostFile,
    names: list[Implementation],
    kind: LayoutKind,
    device: str,
    budget_s: float,
) -> None:
    """Measures what has no costs yet, and keeps it.

    One process at a time: others wait for its file, which then says what they need.
    """
    end, key = time.monotonic() + budget_s, device_key(device)
    ways = directions(device)
    known = file.load_all(key)
    if not any(_missing(known[kind, way], names) for way in ways):
        return
    calibration = Calibration(device)
    try:
        with file.turn(budget_s):
            for number, way in enumerate(ways):
                missing = _missing(file.load(key, kind, way), names)
                share_s = (end - time.monotonic()) / (len(ways) - number)
                if missing and share_s > 0:
                    found = calibration.measure(missing, kind, way, share_s)
                    file.save(key, kind, way, found)
                    _log.info("costs of kernels on %s, %s %s: %s", device, kind, way, found)
    except TimeoutError as error:
        _log.info("costs of kernels are not measured: %s", error)


def _missing(known: Costs, names: list[Implementation]) -> list[Implementation]:
    """Returns who has no costs yet; nobody if there is no choice."""
    candidates = [name for name in names if name is not Implementation.REFERENCE]
    if len(candidates) < _FEWEST_TO_CHOOSE_FROM:
        return []
    return [name for name in candidates if name not in known]


def _quick_copiers(memory: PageMemory) -> dict[Implementation, Copier]:
    copiers: dict[Implementation, Copier] = {}
    for name, entry in ENTRIES.items():
        on_device = memory.spec.device != "cpu"  # then torch is there, and the rest loads quickly
        if not entry.starts_slowly and (on_device or _is_loaded(name)):
            _add(copiers, memory, name)
    return copiers


def _measured_slow_ones(known: dict[CostKey, Costs]) -> list[Implementation]:
    measured = {name for costs in known.values() for name in costs}
    return [name for name, entry in ENTRIES.items() if entry.starts_slowly and name in measured]


def _is_loaded(name: Implementation) -> bool:
    return all(sys.modules.get(package) for package in ENTRIES[name].packages)


def _add(copiers: dict[Implementation, Copier], memory: PageMemory, name: Implementation) -> None:
    try:
        copiers[name] = create(memory, name)
    except LocalError as error:
        _log.debug("%s cannot copy on %s: %s", name, memory.spec.device, error)
