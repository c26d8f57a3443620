"""The search for seeds that find deliberate defects, and the record of them that CI replays."""

import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tests.sim.defects import DEFECTS, Defect

NUM_RECORDED = 3  # for each defect: chance shifts with the code, and one of them will do
_SEEDS_FILE = Path(__file__).with_name("seeds.json")


def search(names: list[str], num_seeds: int, num_jobs: int) -> dict[str, list[int]]:
    """Returns the first seeds that find each of some defects, of so many seeds."""
    with ProcessPoolExecutor(num_jobs, get_context("spawn")) as pool:
        found = pool.map(partial(_search_one, num_seeds=num_seeds), names)
        return dict(zip(names, found, strict=True))


def recorded_seeds() -> dict[str, list[int]]:
    """Returns the seeds that found each defect when they were recorded."""
    seeds: dict[str, list[int]] = json.loads(_SEEDS_FILE.read_text())
    return seeds


def record(seeds_by_defect: dict[str, list[int]]) -> None:
    """Keeps what a search has found, in place of what was recorded for the same defects."""
    merged = {**recorded_seeds(), **seeds_by_defect}
    names = [defect.name for defect in DEFECTS]
    lines = [f'  "{name}": {merged[name]}' for name in names if name in merged]
    _SEEDS_FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _search_one(name: str, num_seeds: int) -> list[int]:
    defect = next(defect for defect in DEFECTS if defect.name == name)
    return _first_seeds(defect, num_seeds)


def _first_seeds(defect: Defect, num_seeds: int) -> list[int]:
    seeds = iter(range(num_seeds))
    found: list[int] = []
    while len(found) < NUM_RECORDED and (seed := defect.find(seeds)) is not None:
        found.append(seed)
    return found
