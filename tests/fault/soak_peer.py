"""An instance that fetches and stores without end, and compares every byte that it is delivered.

Run as ``python -m tests.fault.soak_peer SETTINGS``. Prompts are many and pools small, so chunks are
evicted all the time. Every instance stores bytes of its own, so a chunk of mixed origin is seen.
"""

import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable

import msgspec
import numpy as np
import numpy.typing as npt

from p2p.backend import BackendConfig, P2PBackend
from p2p.keys import ChunkKey, chunk_keys
from tests.e2e.holder_process import LAYOUT, NAMESPACE, content_of
from tests.fault.figures import num_fds, num_threads, rss_bytes
from tests.fault.peer_process import say

NUM_PROMPTS = 24
NUM_CHUNKS = 16
NUM_SLOTS = 96  # a quarter of all prompts
BUDGET_S = 1.0
OVER_S = 0.1
_PAUSE_S = 0.02
_REPORT_S = 1.0


class SoakSettings(msgspec.Struct, frozen=True):
    """What a peer of the soak is started with.

    Attributes:
        controller: its address.
        instance: the id.
        seed: of the bytes that it stores.
        seeds: of all instances.
        transports: of UCX.
    """

    controller: str
    instance: str
    seed: int
    seeds: tuple[int, ...]
    transports: tuple[str, ...] = ()


class SoakPeer:
    """One instance at work.

    Args:
        settings: of this process.
        backend: running.
    """

    def __init__(self, settings: SoakSettings, backend: P2PBackend) -> None:
        self._seed = settings.seed
        self._backend = backend
        self._bases = {seed: content_of(seed, NUM_CHUNKS) for seed in settings.seeds}
        self._random = random.Random(time.time_ns())  # noqa: S311
        self._counts: Counter[str] = Counter()

    def turn(self) -> None:
        """Fetches a prompt, compares it, and stores what nobody had."""
        prompt = self._random.randrange(NUM_PROMPTS)
        keys = keys_of(prompt)
        started_s = time.monotonic()
        with self._backend.fetch(keys, budget_s=BUDGET_S) as result:
            self._counts["fetches_over_budget"] += time.monotonic() - started_s > BUDGET_S + OVER_S
            self._compare(prompt, result.chunks)
            self._counts["fetches"] += 1
            self._counts["chunks_compared"] += result.num_chunks
            self._counts["chunks_from_peers"] += sum(s.num_chunks for s in result.sources)
            self._counts[f"ended_{result.reason.value}"] += 1
            is_whole = result.num_chunks == NUM_CHUNKS
        if not is_whole:
            report = self._backend.put(keys, self._bases[self._seed] ^ np.uint8(prompt))
            self._counts["chunks_put"] += report.num_stored

    def report(self) -> None:
        """Writes the counts since the last report, and how much the process takes now."""
        pid = os.getpid()
        say(
            counts=self._counts,
            rss=rss_bytes(pid),
            fds=num_fds(pid),
            threads=num_threads(pid),
            counters=self._backend.counters(),
        )
        self._counts.clear()

    def _compare(self, prompt: int, chunks: Iterable[npt.NDArray[np.uint8]]) -> None:
        for number, chunk in enumerate(chunks):
            wanted = (base[number] ^ np.uint8(prompt) for base in self._bases.values())
            if not any(np.array_equal(chunk, content) for content in wanted):
                self._counts["chunks_wrong"] += 1
                say(wrong=[prompt, number])


def keys_of(prompt: int) -> list[ChunkKey]:
    """Returns the keys of a prompt."""
    num_tokens = NUM_CHUNKS * LAYOUT.chunk_tokens
    return chunk_keys(range(prompt * num_tokens, (prompt + 1) * num_tokens), LAYOUT.chunk_tokens)


def main(text: str) -> None:
    """Works until it is killed."""
    settings = msgspec.json.decode(text, type=SoakSettings)
    config = BackendConfig(
        namespace=NAMESPACE,
        controller=settings.controller,
        instance=settings.instance,
        pool_bytes=NUM_SLOTS * LAYOUT.chunk_bytes,
        quarantine_s=1.0,
        channel="nixl",
        nixl_transports=settings.transports,
    )
    with P2PBackend.start(config, LAYOUT) as backend:
        peer = SoakPeer(settings, backend)
        reported_s = time.monotonic()
        while True:
            peer.turn()
            if time.monotonic() > reported_s + _REPORT_S:
                peer.report()
                reported_s = time.monotonic()
            time.sleep(_PAUSE_S)


if __name__ == "__main__":
    main(sys.argv[1])
