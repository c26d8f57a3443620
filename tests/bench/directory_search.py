"""The directory's search in one process, next to a bare pass of ``dict.get`` over the same keys.

Three directories' worth of questions: the same few chains again and again, chains drawn at random
from a million keys, and chains that two instances cover, each half of them. All keys are fresh
bytes objects, whose hashes nobody has computed yet. The worst of the three is the figure.
"""

import random
import statistics
from collections.abc import Callable
from functools import lru_cache, partial

from p2p.changes import Changes
from p2p.directory import Directory
from p2p.keys import ChunkKey, split_keys
from tests.bench import directory_fleet as fleet
from tests.bench import harness

_NUM_KEYS = 1_000_000
_NUM_FEW = 20
_NUM_PAIRS = 60
_KEYS_PER_PASS = 2000


def search_figures(rounds: int) -> dict[str, object]:
    """Returns ``search_to_dict_100`` and ``search_to_dict_1000``."""
    figures: dict[str, object] = {}
    for chain_keys in (100, 1000):
        directory, mask = filled(chain_keys)
        ratios = {}
        for name in ("few", "random", "halves"):
            rows = [search_to_dict(directory, mask, chain_keys, name) for _ in range(rounds)]
            ratios[name] = harness.spread(rows)
        figures[f"search_to_dict_{chain_keys}"] = max(one["median"] for one in ratios.values())
        figures[f"search_to_dict_{chain_keys}_spread"] = ratios
    return figures


def filled(chain_keys: int) -> tuple[Directory, int]:
    """Returns a million keys; the second half of each odd chain is another instance's."""
    directory = Directory()
    holdings = [directory.open_holding() for _ in range(2)]
    blob, half_bytes = fleet.key_blob(_NUM_KEYS), chain_keys // 2 * fleet.KEY_BYTES
    kinds = bytes([fleet.TIER]) * (chain_keys // 2)
    for number, start in enumerate(range(0, len(blob), half_bytes)):
        half = Changes("", kinds, blob[start : start + half_bytes], fleet.KEY_BYTES)
        directory.apply(holdings[number % 4 == 3], half)
    return directory, holdings[0].mask | holdings[1].mask


@lru_cache(maxsize=1)
def _bare(directory: Directory) -> Callable[[ChunkKey], int | None]:
    """Returns the lookup of one dict with the same content, inserted in the same order."""
    masks = directory._masks_by_tenant[""]
    return {key: masks.get(key) for key in split_keys(_BLOB, fleet.KEY_BYTES)}.get


def search_to_dict(directory: Directory, visible: int, chain_keys: int, name: str) -> float:
    """Returns the search's time over that of the bare pass, the median of many pairs."""
    get = _bare(directory)
    ratios = list[float]()
    for _ in range(_NUM_PAIRS):
        chains = _questions(chain_keys, name), _questions(chain_keys, name)
        bare_s = harness.timed(partial(_pass, get, chains[0]))
        ratios.append(harness.timed(partial(_search, directory, visible, chains[1])) / bare_s)
    return statistics.median(ratios)


def _questions(chain_keys: int, name: str) -> list[list[ChunkKey]]:
    num_chains, num_asked = _NUM_KEYS // chain_keys, _KEYS_PER_PASS // chain_keys
    numbers = random.sample(range(_NUM_FEW if name == "few" else num_chains // 2), num_asked)
    return [_fresh(2 * number + (name == "halves"), chain_keys) for number in numbers]


_BLOB = fleet.key_blob(_NUM_KEYS)


def _fresh(number: int, chain_keys: int) -> list[ChunkKey]:
    chain_bytes = chain_keys * fleet.KEY_BYTES
    return split_keys(_BLOB[number * chain_bytes : (number + 1) * chain_bytes], fleet.KEY_BYTES)


def _pass(get, chains) -> None:
    for keys in chains:
        list(map(get, keys))


def _search(directory, visible, chains) -> None:
    for keys in chains:
        runs = directory.find_runs(keys, "", visible)
        assert sum(run.num_chunks for run in runs) == len(keys)
