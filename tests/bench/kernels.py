"""Gather and scatter of chunks of 256 tokens (32 layers, 8 heads of 128, bf16: 32 MiB) on CPU.

Against a plain copy of as many bytes in the same run, from a source as large and as cold as the
paged cache (1 GiB), in one thread; the order within a pair alternates.

``gather_to_copy``, ``scatter_to_copy``: the worst block-contiguous layout, with the implementation
that is chosen of those in one thread. ``threads2_to_threads1``: NumPy in two threads to one, the
median over layouts. ``table``: every implementation that can run here, and what people write first.
``--out DIR`` writes kernels.json, kernels.txt and kernels.svg.
"""

import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import harness

harness.import_paths()

import numpy as np
import torch

from p2p.errors import LocalError
from p2p.kernels import CopyPlan, KernelSettings, PageMemory, Slot, copy_shape, plan_blocks
from p2p_kernels.adaptive import AdaptiveCopier
from p2p_kernels.base import Copier
from p2p_kernels.candidates import open_adaptive
from p2p_kernels.costs import Direction
from p2p_kernels.numpy_kernels import ThreadedNumpyCopier
from p2p_kernels.registry import ENTRIES, Implementation, create
from tests.bench import kernels_layouts as layouts
from tests.bench.kernels_plot import svg, text_table

NUM_SLOTS = 8
HEADLINE_ROUNDS = 61
OTHER_ROUNDS = 5
CHOSEN = "chosen, 1 thread"
TORCH_2 = "torch, 2 threads"
IN_FULL = {CHOSEN, "auto", "numpy", "numpy-threads"}
Copy = Callable[[CopyPlan, list[Slot]], None]
Figures = dict[str, dict[str, dict[str, dict[str, float]]]]


@dataclass
class Memory:
    """The cache, a source for plain copies, and slots; each round uses others of them."""

    pages: np.ndarray = field(default_factory=lambda: _random(layouts.CACHE_BYTES))
    plain: np.ndarray = field(default_factory=lambda: _touched(layouts.CACHE_BYTES))
    slots: np.ndarray = field(default_factory=lambda: _touched(NUM_SLOTS * layouts.CHUNK_BYTES))
    used: int = 0

    def slot(self, num_bytes: int) -> np.ndarray:
        """Returns the slot that was used longest ago."""
        self.used += 1
        start = self.used % NUM_SLOTS * layouts.CHUNK_BYTES
        return self.slots[start : start + num_bytes]

    def source(self, number: int, num_bytes: int) -> np.ndarray:
        """Returns a span of the source for plain copies."""
        start = number * 7 % layouts.NUM_CHUNKS * layouts.CHUNK_BYTES
        return self.plain[start : start + num_bytes]


def _touched(num_bytes: int) -> np.ndarray:
    return np.full(num_bytes, 1, np.uint8)


def _random(num_bytes: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 1 << 62, num_bytes // 8).view(np.uint8)


def rounds(memory: Memory, plans: list[CopyPlan], copy: Copy, is_gather: bool) -> list[float]:
    """Returns the speed of a copy to that of a plain copy, pair by pair."""
    size = plans[0].shape.chunk.chunk_bytes

    def ours(number: int) -> float:
        slot = memory.slot(size)
        return harness.timed(lambda: copy(plans[number % len(plans)], [slot]))

    def plain(number: int) -> float:
        pair = memory.slot(size), memory.source(number, size)
        target, source = pair if is_gather else reversed(pair)
        return harness.timed(lambda: np.copyto(target, source))

    ours(0)
    plain(0)
    ratios = []
    for number in range(1, len(plans)):
        if number % 2:
            theirs_s, ours_s = plain(number), ours(number)
        else:
            ours_s, theirs_s = ours(number), plain(number)
        ratios.append(theirs_s / ours_s)
    return ratios


def plans_of(bench: layouts.Bench, pages: PageMemory, count: int) -> list[CopyPlan]:
    """Returns plans of one chunk each, of blocks all over the cache."""
    shape = copy_shape(pages.spec, bench.chunk(pages))
    blocks = np.random.default_rng(1).permutation(pages.spec.num_blocks)
    by_chunk = blocks.reshape(-1, layouts.BLOCKS_PER_CHUNK)
    return [plan_blocks(shape, by_chunk[number % len(by_chunk)]) for number in range(count)]


def check(memory: Memory, pages: PageMemory, plan: CopyPlan, copy: Copy, name: str) -> None:
    """Raises if a gather is not what the reference makes of it."""
    size = plan.shape.chunk.chunk_bytes
    found, wanted = memory.slot(size), memory.slot(size)
    copy(plan, [found])
    create(pages, Implementation.REFERENCE).gather(plan, [wanted])
    if not np.array_equal(found, wanted):
        raise AssertionError(f"{name} gathers other bytes than the reference")


def copiers(bench: layouts.Bench, pages: PageMemory, cost_file: str) -> dict[str, Copier]:
    """Returns what can run, the adaptive one, and the adaptive one without threads."""
    settings = KernelSettings(cost_file=cost_file, calibration_budget_s=20.0)
    adaptive = open_adaptive(pages, settings, copy_shape(pages.spec, bench.chunk(pages)))
    alone = [each for each in adaptive.candidates if "threads" not in each.copier.name]
    found: dict[str, Copier] = {CHOSEN: AdaptiveCopier(pages, alone), "auto": adaptive}
    for name in ENTRIES:
        try:
            found[name] = create(pages, name)
        except LocalError as error:
            print(f"{bench.name}: {error}", file=sys.stderr)
    return found


def copies(bench: layouts.Bench, pages: PageMemory, way: Direction, cost_file: str):
    """Returns copies by name, and the implementation that was chosen in one thread."""
    is_gather, chosen = way.is_gather, ""
    by_name: dict[str, Copy] = {
        "Python loops": layouts.python_loops(pages, is_gather),
        "fancy indexing": layouts.fancy_indexing(pages, is_gather),
    }
    for name, copier in copiers(bench, pages, cost_file).items():
        by_name[str(name)] = copier.gather if is_gather else copier.scatter
        if name == CHOSEN:
            assert isinstance(copier, AdaptiveCopier)
            chosen = copier.choice(plans_of(bench, pages, 1)[0], way).name
        if name == Implementation.TORCH:
            by_name[TORCH_2] = by_name["torch"]
    return by_name, chosen


def measure(memory: Memory, bench: layouts.Bench, cost_file: str, full: bool):
    """Returns ratios by direction and implementation, and the names that were chosen."""
    pages = bench.memory(memory.pages)
    found: dict[str, dict[str, dict[str, float]]] = {}
    chosen: dict[str, str] = {}
    for way in (Direction.GATHER, Direction.SCATTER):
        by_name, chosen[way] = copies(bench, pages, way, cost_file)
        found[way] = {}
        for name, copy in by_name.items():
            count = HEADLINE_ROUNDS if name in IN_FULL else OTHER_ROUNDS
            torch.set_num_threads(2 if name == TORCH_2 else 1)
            if way is Direction.GATHER:
                check(memory, pages, plans_of(bench, pages, 1)[0], copy, name)
            plans = plans_of(bench, pages, (4 * count if full else count) + 1)
            found[way][name] = harness.spread(rounds(memory, plans, copy, way.is_gather))
    return found, chosen


def summary(figures: Figures) -> dict[str, object]:
    """Returns the figures by name."""
    worst = [bench.name for bench in layouts.BENCHES if bench.is_block_contiguous]
    threads = [
        ways[way]["numpy-threads"]["median"] / ways[way]["numpy"]["median"]
        for ways in figures.values()
        for way in ways
        if "numpy-threads" in ways[way]
    ]
    return {
        "gather_to_copy": min(figures[name]["gather"][CHOSEN]["median"] for name in worst),
        "scatter_to_copy": min(figures[name]["scatter"][CHOSEN]["median"] for name in worst),
        "threads2_to_threads1": round(statistics.median(threads), 3) if threads else None,
    }


def main() -> None:
    """Measures, prints and writes."""
    options = harness.arguments(__doc__ or "", ["--out"])
    torch.set_num_threads(1)
    ThreadedNumpyCopier.max_threads = 2
    memory, figures, chosen = Memory(), {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for bench in layouts.BENCHES:
            found = measure(memory, bench, f"{folder}/kernels.json", options.full)
            figures[bench.name], chosen[bench.name] = found
    report = summary(figures) | {"chosen": chosen}
    medians = {
        layout: {
            way: {name: each["median"] for name, each in by.items()} for way, by in ways.items()
        }
        for layout, ways in figures.items()
    }
    if options.out:
        out = Path(options.out)
        out.mkdir(parents=True, exist_ok=True)
        (out / "kernels.json").write_text(json.dumps(report | {"table": figures}, indent=1) + "\n")
        (out / "kernels.txt").write_text(text_table(figures))
        (out / "kernels.svg").write_text(svg(figures))
    if not options.json:
        print(text_table(figures))
    print(json.dumps(report | {"table": medians}))


if __name__ == "__main__":
    main()
