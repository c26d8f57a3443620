"""Two real ``vllm serve`` processes: HTTP, streaming, metrics, and a server that goes."""

import signal
import time

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm")

from examples.p2p_sharing.vllm.servers import Servers, await_ready
from tests.e2e.vllm.fixtures import CHUNK, CHUNK_BYTES, prompt_of
from tests.e2e.vllm.over_http import held, meet

pytestmark = [pytest.mark.vllm, pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def pair(model):
    """Two servers that have met."""
    with Servers(model, "--skip-tokenizer-init") as servers:
        a, b = servers.start("a", "0"), servers.start("b", "1")
        await_ready(a, b)
        meet(a, b)
        yield a, b


@pytest.mark.parametrize("num_tokens", [128, 1000, 2048])
def test_a_server_reads_what_another_has_computed(pair, num_tokens):
    for holder, reader in (pair, pair[::-1]):
        prompt = held(holder, num_tokens)
        cold = reader.client.complete(prompt, 16, salt=f"alone {holder.name} {num_tokens}")
        before = reader.client.metrics()
        hit = reader.client.complete(prompt, 16)
        after = reader.client.metrics()
        num_chunks = num_tokens // CHUNK
        assert hit.tokens == cold.tokens
        assert (cold.num_cached, hit.num_cached) == (0, num_chunks * CHUNK)
        grown = {name: after[name] - before.get(name, 0) for name in after}
        assert grown["fetched_chunks"] == num_chunks
        assert grown["external_tokens"] == num_chunks * CHUNK
        assert grown["load_bytes"] == num_chunks * CHUNK_BYTES
        assert grown["lookups_ended/complete"] == 1
        assert grown["load_failures"] == 0


def test_the_response_says_what_came_from_whom(pair):
    a, b = pair
    shared = b.client.shared(held(a, 1000), 4)
    assert shared["external_tokens"] == 7 * CHUNK
    assert shared["reason"] == "complete"
    (source,) = shared["sources"]
    assert source["instance"] == "a"
    nothing = b.client.shared(prompt_of(1000), 4)
    assert (nothing["external_tokens"], nothing["reason"]) == (0, "no_holder")


def test_vllm_counts_the_tokens_as_external(pair):
    a, b = pair
    prompt = held(a, 1000)
    before = b.client.read("vllm:external_prefix_cache_hits_total")
    b.client.complete(prompt, 1)
    assert b.client.read("vllm:external_prefix_cache_hits_total") - before == 7 * CHUNK
    assert b.client.read('vllm:prompt_tokens_cached_by_source_total{source="p2p"') >= 7 * CHUNK


def test_a_reset_empties_the_pool_too(pair):
    a, b = pair
    prompt = held(a, 1000)
    a.client.forget(external=True)
    assert b.client.complete(prompt, 4).num_cached == 0


def test_the_other_goes_on_when_one_is_told_to_end(pair):
    """The last test with this pair."""
    a, b = pair
    prompts = [held(a, 1000) for _ in range(2)]
    cold = [b.client.complete(prompt, 16, salt="alone").tokens for prompt in prompts]
    a.send_signal(signal.SIGTERM)
    for prompt, tokens in zip(prompts, cold, strict=True):
        began_s = time.monotonic()
        assert b.client.complete(prompt, 16).tokens == tokens
        assert time.monotonic() - began_s < 6
