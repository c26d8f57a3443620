"""Tables for people: who can run, what copies are expected to reach, and who is chosen."""

from collections.abc import Mapping

import numpy as np

from p2p.errors import LocalError, PluginMissingError
from p2p_kernels.adaptive import cheapest
from p2p_kernels.calibration import PLAIN_COPY
from p2p_kernels.cost_file import Costs
from p2p_kernels.costs import Direction, LayoutKind, Work
from p2p_kernels.memory import PageAxes, PageMemory
from p2p_kernels.registry import ENTRIES, Implementation, create

_CHUNK_BYTES = 32 << 20
_PLANES = 64
_SPANS = {
    LayoutKind.BLOCKS: (4 << 10, 32 << 10, 256 << 10, 2 << 20),
    LayoutKind.ROWS: (64, 256, 1 << 10, 4 << 10),
    LayoutKind.STRIDED: (64, 256, 1 << 10, 4 << 10),
}
_NAME_WIDTH = 16
_WIDTH = 20


def reasons(device: str) -> dict[Implementation, str]:
    """Returns why an implementation cannot run on a device, empty if it can. Loads them all.

    Raises:
        PluginMissingError: torch knows no such device.
    """
    memory, found = _small_cache(device), {}
    for name in ENTRIES:
        try:
            create(memory, name)
        except LocalError as error:
            found[name] = str(error)
        else:
            found[name] = ""
    return found


def runners_table(why_not: Mapping[Implementation, str]) -> list[str]:
    """Returns lines that say who can run."""
    return [
        f"{name:{_NAME_WIDTH}}{'no: ' + reason if reason else 'can run'}"
        for name, reason in why_not.items()
    ]


def cost_table(
    kind: LayoutKind, way: Direction, costs: Costs, why_not: Mapping[Implementation, str]
) -> list[str]:
    """Returns lines with GB/s and the ratio to a plain copy, for a chunk of 32 MiB by span."""
    spans = _SPANS[kind]
    head = f"{way}, {kind}: GB/s (to a plain copy) of 32 MiB in spans of"
    if not costs:
        return [head, "  not measured"]
    lines = [head, f"{'':{_NAME_WIDTH}}" + "".join(f"{_size(span):{_WIDTH}}" for span in spans)]
    for name in costs:
        cells = [_cell(name, costs, _work(span)) for span in spans]
        lines.append(f"{name:{_NAME_WIDTH}}" + "".join(f"{cell:{_WIDTH}}" for cell in cells))
    chosen = [_chosen(costs, why_not, _work(span)) for span in spans]
    lines.append(f"{'chosen':{_NAME_WIDTH}}" + "".join(f"{name:{_WIDTH}}" for name in chosen))
    return [line.rstrip() for line in lines]


def _cell(name: str, costs: Costs, work: Work) -> str:
    plain, seconds = costs.get(PLAIN_COPY), costs[name].seconds(work)
    if not seconds:  # nobody measured that: the file was written by hand
        return "-"
    speed = f"{work.bytes / seconds / 1e9:.2f}"
    if plain is None or name == PLAIN_COPY:
        return speed
    return f"{speed} ({plain.seconds(work) / seconds:.2f})"


def _chosen(costs: Costs, why_not: Mapping[Implementation, str], work: Work) -> str:
    names = [name for name in ENTRIES if not why_not[name] and name in costs]
    found = [costs[name].seconds(work) for name in names]
    return names[cheapest(found)] if names else "-"


def _work(span: int) -> Work:
    rows = _CHUNK_BYTES // span
    return Work(min(_PLANES, rows), rows, _CHUNK_BYTES)


def _size(num_bytes: int) -> str:
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if num_bytes >= unit:
            return f"{num_bytes // unit} {name}"
    return f"{num_bytes} B"


def _small_cache(device: str) -> PageMemory:
    shape = (2, 2, 2, 2, 16)
    if device == "cpu":
        return PageMemory.of_tensors(np.zeros(shape, np.uint8), PageAxes.KV_FIRST_NHD)
    try:
        import torch  # noqa: PLC0415 - optional package

        pages = torch.zeros(shape, dtype=torch.uint8, device=device)
    except (ImportError, RuntimeError, AssertionError) as error:
        raise PluginMissingError(f"no device {device}: {error}") from error
    return PageMemory.of_tensors(pages, PageAxes.KV_FIRST_NHD)
