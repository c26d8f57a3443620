"""An instance in a process of its own that stores chunks straight from a paged cache.

Run as ``python paged_holder_process.py CONTROLLER INSTANCE SEED HOW``; HOW is ``put`` or ``save``
(layer by layer). Prints one line when the directory knows its chunks; ends when its input closes.
"""

import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from p2p.backend import BackendConfig, CacheDescription, P2PBackend
from p2p.kernels import PageAxes
from p2p.keys import Namespace, chunk_keys
from p2p.layout import Layout
from tests.e2e.controller_process import environment
from tests.unit.backend.engine_caches import NUM_BLOCKS, Paged, paged

LAYOUT = Layout(4, 4, 64, "float16", block_tokens=16, chunk_tokens=64)  # 256 KiB a chunk
NAMESPACE = Namespace("paged", "0" * 32, "float16")
NUM_CHUNKS = 8
KEYS = chunk_keys(range(NUM_CHUNKS * LAYOUT.chunk_tokens), LAYOUT.chunk_tokens)
PER_CHUNK = LAYOUT.chunk_tokens // LAYOUT.block_tokens


def blocks_of(seed: int) -> list[int]:
    """Returns the blocks in which an engine has the prompt that all share."""
    order = np.random.default_rng(seed).permutation(NUM_BLOCKS)
    return [int(block) for block in order[: NUM_CHUNKS * PER_CHUNK]]


def holder_cache(seed: int) -> Paged:
    """Returns what the engine of a holder has in its cache: ``[2, nb, bs, h, d]`` per layer."""
    return paged(PageAxes.KV_FIRST_NHD, seed, LAYOUT)


def start_backend(controller: str, instance: str) -> P2PBackend:
    """Returns a running instance with room for twice the prompt."""
    config = BackendConfig(
        namespace=NAMESPACE,
        controller=controller,
        instance=instance,
        pool_bytes=2 * NUM_CHUNKS * LAYOUT.chunk_bytes,
    )
    return P2PBackend.start(config, LAYOUT)


class PagedHolderProcess:
    """A holder that runs until the context ends."""

    def __init__(self, controller: str, instance: str, seed: int, how: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, controller, instance, str(seed), how],
            env=environment(NIXL_LOG_LEVEL="ERROR"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        if self.process.stdout.readline() != b"ready\n":
            raise AssertionError(f"{instance} did not start")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.communicate(timeout=30)


def main(controller: str, instance: str, seed: int, how: str) -> None:
    """Stores and serves until the input closes."""
    with start_backend(controller, instance) as backend:
        cache = holder_cache(seed)
        registered = backend.register_cache(CacheDescription(cache.tensors, cache.axes))
        if how == "put":
            registered.put(KEYS, blocks_of(seed))
        else:
            with registered.save(KEYS, blocks_of(seed)) as saving:
                for layer in range(registered.num_layers):
                    saving.save_layer(layer)
                saving.commit()
        if not backend.wait_advertised(20):
            raise AssertionError("no controller")
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
