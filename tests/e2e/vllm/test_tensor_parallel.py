"""Instances of one and two workers, in processes of their own: each rank gets its own heads."""

import os

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm")

from examples.p2p_sharing.vllm.servers import Servers, await_ready
from tests.e2e.vllm.fixtures import CHUNK, CHUNK_BYTES
from tests.e2e.vllm.over_http import held, meet

_BUDGET_S = 20.0  # workers that wait actively
_CORES = len(os.sched_getaffinity(0))
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(
        _CORES < 4 and not os.environ.get("P2P_TEST_TENSOR_PARALLEL"),
        reason=f"{_CORES} cores: a first contact outlasts its second beside workers that wait"
        " actively; P2P_TEST_TENSOR_PARALLEL=1 runs it",
    ),
]


@pytest.mark.parametrize(("workers_of_a", "workers_of_b"), [(2, 2), (2, 1)])
def test_instances_share_whatever_their_number_of_workers(model, workers_of_a, workers_of_b):
    with Servers(model, "--skip-tokenizer-init") as servers:
        a = _start(servers, "a", workers_of_a)
        b = _start(servers, "b", workers_of_b)
        await_ready(a, b)
        meet(a, b)
        for holder, reader in ((a, b), (b, a)):
            prompt = held(holder, 1000)
            cold = reader.client.complete(prompt, 16, salt=f"alone {holder.name}")
            before = reader.client.metrics()
            hit = reader.client.complete(prompt, 16)
            after = reader.client.metrics()
            assert hit.tokens == cold.tokens
            assert (cold.num_cached, hit.num_cached) == (0, 7 * CHUNK)
            grown = {name: after[name] - before.get(name, 0) for name in after}
            assert grown["fetched_chunks"] == 7
            assert grown["load_bytes"] == 7 * CHUNK_BYTES  # of two ranks half each


def _start(servers, name, num_workers):
    cores = "|".join(str(core) for core in range(num_workers))
    options = ("--tensor-parallel-size", str(num_workers))
    return servers.start(name, cores, {"budget_s": _BUDGET_S}, *options)
