"""Lookups in an instance's own copy of the directory, next to a bare pass over a dict.

Run as a file; ``--json`` prints the line only.
"""

import json
import random
import time
from collections import Counter

if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.path[:0] = [str(Path(__file__).resolve().parents[2] / part) for part in (".", "controller")]

from p2p.backend.mirror import Mirror
from p2p.keys import ChunkKey
from p2p.layout import Layout
from p2p.wire.messages import EntriesChanged, Holder, MemberSeen
from tests.bench.harness import arguments, paired, spread

LAYOUT = Layout(4, 2, 64, "bfloat16", block_tokens=16, chunk_tokens=64)
NUM_KEYS, CHAIN, ROUNDS, PASSES = 200_000, 100, 41, 200
NUM_MEMBERS = 8


def mirror_to_dict() -> dict[str, float]:
    """Returns the time of a lookup of 100 chunks over that of ``dict.get`` of the same keys."""
    draw = random.Random(7)  # noqa: S311
    keys = [ChunkKey(draw.randbytes(32)) for _ in range(NUM_KEYS)]
    mirror, bare = _filled(keys), dict.fromkeys(keys, 1)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        starts = [CHAIN * draw.randrange(NUM_KEYS // CHAIN) for _ in range(PASSES)]
        chains = [[ChunkKey(bytes(bytearray(k))) for k in keys[s : s + CHAIN]] for s in starts]
        began_s = time.perf_counter()
        for chain in chains:
            for key in chain:
                bare.get(key)
        middle_s = time.perf_counter()
        chains = [[ChunkKey(bytes(bytearray(k))) for k in keys[s : s + CHAIN]] for s in starts]
        again_s = time.perf_counter()
        for chain in chains:
            runs, holders = mirror.find(chain, "", LAYOUT, 1.0)
            if runs[0].count != CHAIN or not holders:
                raise AssertionError("the mirror lacks what it was told")
        theirs.append(middle_s - began_s)
        ours.append(time.perf_counter() - again_s)
    return spread(paired(ours, theirs))


def _filled(keys: list[ChunkKey]) -> Mirror:
    """Returns a mirror in which every chain is at one member."""
    mirror = Mirror(Counter())
    for number in range(NUM_MEMBERS):
        holder = Holder(instance=f"i{number}", incarnation=1, address=f"tcp://i{number}:1")
        mirror.take([MemberSeen(number=number, holder=holder, layout=LAYOUT)], 0.0)
    for start in range(0, len(keys), CHAIN):
        change = EntriesChanged(
            number=start // CHAIN % NUM_MEMBERS,
            kinds=bytes([2]) * CHAIN,
            keys=b"".join(keys[start : start + CHAIN]),
            key_bytes=32,
        )
        mirror.take([change], 0.0)
    return mirror


def main() -> None:
    """Prints the figure."""
    words = arguments(__doc__ or "")
    figures = mirror_to_dict()
    if not words.json:
        print(f"a lookup of {CHAIN} chunks in the mirror takes {figures['median']:.2f} dict passes")
    print(json.dumps({"mirror_to_dict": figures["median"], "rounds": figures}))


if __name__ == "__main__":
    main()
