"""What callers do on the simulated instances: a tree of prompts, stored and fetched again."""

import random

from p2p.keys import ChunkKey, chunk_keys
from tests.sim.pool import LAYOUT

TENANTS = ("", "", "a", "b")
PROMPT_CHUNKS = 12


class Prompts:
    """Prompts that share prefixes; some belong to a tenant.

    Args:
        draw: makes choices.
    """

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._num_others = 0
        self.prompts: list[tuple[list[ChunkKey], str]] = []
        per_chunk = LAYOUT.chunk_tokens
        for trunk in range(3):
            for branch in range(3):
                common = [trunk] * (2 + 2 * trunk) * per_chunk
                rest = [100 + branch] * PROMPT_CHUNKS * per_chunk
                tokens = (common + rest)[: PROMPT_CHUNKS * per_chunk]
                tenant = TENANTS[(trunk * 3 + branch) % len(TENANTS)]
                self.prompts.append((chunk_keys(tokens, per_chunk, salt=tenant), tenant))

    def other(self, num_chunks: int) -> list[ChunkKey]:
        """Returns the keys of a long prompt that nobody fetches."""
        self._num_others += 1
        per_chunk = LAYOUT.chunk_tokens
        return chunk_keys([10_000 + self._num_others] * num_chunks * per_chunk, per_chunk)

    def choose(self) -> tuple[list[ChunkKey], str]:
        """Returns a prompt's beginning and its tenant; a few are the same for two tenants."""
        popular = int(len(self.prompts) * self._draw.random() ** 1.7)
        keys, tenant = self.prompts[popular]
        if self._draw.random() < 0.05:
            tenant = self._draw.choice(TENANTS)
        return keys[: self._draw.randint(1, len(keys))], tenant
