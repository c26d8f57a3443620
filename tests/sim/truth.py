"""The truth about what was stored under which key, apart from what the production code believes.

Every put has bytes of its own: what holders keep under one key is valid and differs, as the KV of
two computations does. So bytes of two of them in one chunk show.
"""

import xxhash

from p2p.keys import ChunkKey
from tests.sim.pool import HELD_BYTES, PIECES

_PIECE_BYTES = HELD_BYTES // PIECES


class Truth:
    """All bytes that were ever put, by key."""

    def __init__(self) -> None:
        self._contents_by_key: dict[ChunkKey, dict[bytes, None]] = {}
        self._num_puts = 0

    def new_content(self, key: ChunkKey, instance: str) -> bytes:
        """Returns what an instance computes under a key: valid, and never the same again."""
        self._num_puts += 1
        name = f"{instance} {self._num_puts}".encode()
        block = xxhash.xxh3_128_digest(key + name)
        content = block * (HELD_BYTES // len(block))
        self._contents_by_key.setdefault(key, {})[content] = None
        return content

    def problem(self, key: ChunkKey, content: bytes) -> str:
        """Returns what is wrong with bytes under a key; empty if they are wholly of one put."""
        contents = self._contents_by_key.get(key, {})
        if content in contents:
            return ""
        cuts = range(0, HELD_BYTES, _PIECE_BYTES)
        pieces = [slice(start, start + _PIECE_BYTES) for start in cuts]
        if all(any(content[p] == whole[p] for whole in contents) for p in pieces):
            return "it mixes what several holders stored"
        return "nobody stored these bytes"
