"""The directory's search in one process, next to a bare pass of ``dict.get`` over the same keys.

Four directories' worth of questions: the same few chains again and again, chains drawn at random
from a million keys, chains that two instances cover, each half of them, and chains that were
admitted key by key, in turns with others. The bare pass gets fresh bytes objects, whose hashes
nobody has computed yet; the search gets them as they travel, in one blob. The worst of the four is
the figure.
"""

import random
import statistics
from collections.abc import Callable
from functools import lru_cache, partial

from p2p.changes import Changes
from p2p.directory import Directory
from p2p.keys import Chain, ChunkKey, split_keys
from tests.bench import directory_fleet as fleet
from tests.bench import harness

_NUM_KEYS = 1_000_000
_NUM_FEW = 20
_NUM_SCATTERED = 200_000  # keys, the last ones
_KINDS = ("few", "random", "halves", "scattered")
_NUM_PAIRS = 60
_KEYS_PER_PASS = 2000


def search_figures(rounds: int) -> dict[str, object]:
    """Returns ``search_to_dict_100`` and ``search_to_dict_1000``."""
    figures: dict[str, object] = {}
    for chain_keys in (100, 1000):
        directory, mask = filled(chain_keys)
        ratios = {}
        for name in _KINDS:
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
    scattered_bytes = _NUM_SCATTERED * fleet.KEY_BYTES
    for number, start in enumerate(range(0, len(blob) - scattered_bytes, half_bytes)):
        half = Changes("", kinds, blob[start : start + half_bytes], fleet.KEY_BYTES)
        directory.apply(holdings[number % 4 == 3], half)
    scattered = blob[-scattered_bytes:]
    step = 2 * half_bytes  # the first key of each chain, then the second of each
    for start in range(0, step, fleet.KEY_BYTES):
        for at in range(start, len(scattered), step):
            one = Changes("", kinds[:1], scattered[at : at + fleet.KEY_BYTES], fleet.KEY_BYTES)
            directory.apply(holdings[0], one)
    return directory, holdings[0].mask | holdings[1].mask


@lru_cache(maxsize=1)
def _bare(directory: Directory) -> Callable[[ChunkKey], int | None]:
    """Returns the lookup of one dict with the same content, inserted in the same order."""
    masks = directory._masks_by_tenant[""]
    blob = b"".join([key for key, _ in masks.items()])
    return {key: masks.get(key) for key in split_keys(blob, fleet.KEY_BYTES)}.get


def search_to_dict(directory: Directory, visible: int, chain_keys: int, name: str) -> float:
    """Returns the search's time over that of the bare pass, the median of many pairs."""
    get = _bare(directory)
    ratios = list[float]()
    for _ in range(_NUM_PAIRS):
        blobs = _questions(chain_keys, name)
        keys = [split_keys(blob, fleet.KEY_BYTES) for blob in blobs]
        bare_s = harness.timed(partial(_pass, get, keys))
        chains = [Chain(blob, fleet.KEY_BYTES) for blob in _questions(chain_keys, name)]
        ratios.append(harness.timed(partial(_search, directory, visible, chains)) / bare_s)
    return statistics.median(ratios)


def _questions(chain_keys: int, name: str) -> list[bytes]:
    num_asked = _KEYS_PER_PASS // chain_keys
    num_ordered, num_all = (n // chain_keys for n in (_NUM_KEYS - _NUM_SCATTERED, _NUM_KEYS))
    if name == "scattered":
        numbers = random.sample(range(num_ordered, num_all), num_asked)
    else:
        pairs = random.sample(range(_NUM_FEW if name == "few" else num_ordered // 2), num_asked)
        numbers = [2 * pair + (name == "halves") for pair in pairs]
    chain_bytes = chain_keys * fleet.KEY_BYTES
    return [_BLOB[n * chain_bytes : (n + 1) * chain_bytes] for n in numbers]


_BLOB = fleet.key_blob(_NUM_KEYS)


def _pass(get, chains) -> None:
    for keys in chains:
        list(map(get, keys))


def _search(directory, visible, chains) -> None:
    for chain in chains:
        runs = directory.find_runs(chain, "", visible)
        assert sum(run.num_chunks for run in runs) == len(chain.blob) // fleet.KEY_BYTES
