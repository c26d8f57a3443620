"""Two and three engines share: answers equal those without sharing, and counts are exact."""

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm")

from tests.e2e.vllm.engine import Engine
from tests.e2e.vllm.fixtures import CHUNK, CHUNK_BYTES, Growth, introduce, prompt_of, sharing
from tests.e2e.vllm.model_folder import make_hybrid_model, make_sliding_model

pytestmark = [pytest.mark.vllm, pytest.mark.e2e, pytest.mark.slow]

LENGTHS = [100, 127, 128, 129, 1000, 1024, 2048, 8000]


@pytest.mark.parametrize("num_tokens", LENGTHS)
@pytest.mark.parametrize("direction", ["a to b", "b to a"])
def test_answers_are_those_without_sharing(plain, a, b, num_tokens, direction):
    holder, reader = (a, b) if direction == "a to b" else (b, a)
    prompt = prompt_of(num_tokens)
    expected = plain.one(prompt).tokens
    num_chunks = num_tokens // CHUNK
    saved, read = Growth(holder), Growth(reader)

    cold = holder.one(prompt)
    assert (cold.tokens, cold.num_cached) == (expected, 0)
    assert saved["saved_chunks"] == (num_tokens + 15) // CHUNK

    hit = reader.one(prompt)
    assert (hit.tokens, hit.num_cached) == (expected, num_chunks * CHUNK)
    assert read["external_tokens"] == num_chunks * CHUNK
    assert read["fetched_chunks"] == num_chunks
    assert read["load_bytes"] == num_chunks * CHUNK_BYTES
    assert read["saved_chunks"] == (num_tokens + 15) // CHUNK - num_chunks
    if num_chunks:
        assert hit.shared["reason"] == "complete"
        (source,) = hit.shared["sources"]
        assert source["chunks"] >= num_chunks  # one that was read twice counts twice


def test_what_the_engine_has_is_not_fetched(plain, a, b):
    prompt = prompt_of(2000)
    expected = plain.one(prompt).tokens
    a.one(prompt)
    a.settle()
    b.one(prompt[:700], 1)  # five chunks, of which b has all in its own cache
    read = Growth(b)
    hit = b.one(prompt)
    assert (hit.tokens, hit.num_cached) == (expected, 15 * CHUNK)
    assert read["external_tokens"] == 10 * CHUNK
    assert read["fetched_chunks"] == 10


def test_what_the_engine_lost_comes_out_of_its_own_pool(plain, a):
    prompt = prompt_of(1000)
    expected = plain.one(prompt).tokens
    a.one(prompt)
    read = Growth(a)
    a.forget()
    again = a.one(prompt)
    assert (again.tokens, again.num_cached) == (expected, 7 * CHUNK)
    assert again.shared["local_chunks"] == 7
    assert (read["fetched_chunks"], read["load_bytes"]) == (0, 7 * CHUNK_BYTES)


def test_nothing_is_saved_twice(a, b):
    prompt = prompt_of(1000)
    a.generate([prompt, prompt, prompt], 1)
    saved = Growth(a)
    a.one(prompt, 1)
    a.forget()
    a.one(prompt, 1)
    assert saved["saved_chunks"] == 0
    assert saved["backend_chunks"] == 0


def test_answers_are_saved_too(plain, a, b):
    prompt = prompt_of(100)
    answer = a.one(prompt, 200).tokens
    a.settle()
    longer = [*prompt, *answer, *prompt_of(20)]
    expected = plain.one(longer).tokens
    hit = b.one(longer)
    assert (hit.tokens, hit.num_cached) == (expected, 2 * CHUNK)


def test_salts_isolate(plain, a, b):
    prompt = prompt_of(1000)
    expected = plain.one(prompt).tokens
    a.one(prompt, salt="red")
    a.settle()
    assert b.one(prompt).num_cached == 0
    assert b.one(prompt, salt="blue").num_cached == 0
    same = b.one(prompt, salt="red")
    assert (same.num_cached, same.tokens) == (7 * CHUNK, expected)


def test_many_prompts_at_once(plain, a, b):
    common = prompt_of(640)
    prompts = [common + prompt_of(n) for n in (5, 130, 300, 777, 1024)]
    expected = [answer.tokens for answer in plain.generate(prompts)]
    assert [answer.tokens for answer in a.generate(prompts)] == expected
    a.settle()
    hits = b.generate(prompts)
    assert [hit.tokens for hit in hits] == expected
    assert all(hit.num_cached >= 640 for hit in hits)


def test_a_prefix_that_is_split_over_two_instances(plain, a, b, engines, controller):
    prompt = prompt_of(2000)
    expected = plain.one(prompt).tokens
    a.one(prompt[:1000], 1)
    a.settle()
    b.one(prompt, 1)  # reads seven chunks of a, and computes eight more
    b.settle()
    b.call("keep_chunks", prompt, 7, 15)
    reader = engines(controller, "c")
    introduce(a, reader)
    introduce(b, reader)
    hit = reader.one(prompt)
    assert (hit.tokens, hit.num_cached) == (expected, 15 * CHUNK)
    assert {source["instance"] for source in hit.shared["sources"]} == {"a", "b"}


@pytest.mark.parametrize(
    "options", [{"enable_prefix_caching": False}, {"prefix_caching_hash_algo": "sha256_cbor"}]
)
def test_other_ways_to_cache(plain, engines, controller, options):
    names = [f"{name}-{min(options)}" for name in "xy"]
    first, second = (engines(controller, name, options=options) for name in names)
    prompts = [prompt_of(n) for n in (128, 1000, 1024)]
    for prompt in [prompt_of(200), *prompts]:
        expected = plain.one(prompt).tokens
        assert first.one(prompt).tokens == expected
        first.settle()
        hit = second.one(prompt)
        assert hit.tokens == expected
        if prompt in prompts:
            assert hit.num_cached == len(prompt) // CHUNK * CHUNK


@pytest.fixture(scope="module")
def stepwise(model, controller, a):
    """Loads layer by layer within the step that schedules a request."""
    with Engine(sharing(model, controller, "step", core=1, load="step")) as engine:
        introduce(a, engine)
        yield engine


def test_loads_within_a_step_come_layer_by_layer(plain, a, stepwise):
    reader = stepwise
    for num_tokens in (127, 128, 129, 1000, 1024, 2048):
        prompt = prompt_of(num_tokens)
        expected = plain.one(prompt).tokens
        a.one(prompt)
        a.settle()
        hit = reader.one(prompt)
        assert hit.tokens == expected
        assert hit.num_cached == (num_tokens - 1) // CHUNK * CHUNK
    prompts = [prompt_of(1000) for _ in range(4)]
    expected = [plain.one(prompt).tokens for prompt in prompts]
    a.generate(prompts, 1)
    a.settle()
    assert [hit.tokens for hit in reader.generate(prompts)] == expected  # together in steps
    counters = reader.settle()
    assert counters["open"] == counters["backend_chunks_pinned"] == 0


def test_a_load_within_a_step_that_fails_is_recomputed(plain, a, stepwise):
    reader = stepwise
    prompt = prompt_of(1024)
    expected = plain.one(prompt).tokens
    a.one(prompt)
    a.settle()
    grown = Growth(reader)
    reader.call("break_loads", 1)
    assert reader.one(prompt).tokens == expected
    assert grown["load_failures"] == 1
    assert grown["open"] == grown["backend_chunks_pinned"] == 0


def test_what_is_computed_sooner_than_read_is_not_read(plain, a, engines, controller):
    """The engine's own steps tell how fast it computes; the holder's link is made out as slow."""
    reader = engines(controller, "hasty", pull="auto")
    introduce(a, reader)
    cold = prompt_of(2048)
    answer = reader.one(cold, 1)
    measured = reader.call("measured_prefill")
    assert 0.5 < measured * answer.seconds / 2048 < 20  # a request is more than its steps
    for bytes_per_s, num_cached in ((1e4, 0), (1e12, 7 * CHUNK)):
        prompt = prompt_of(1000)
        a.one(prompt)
        a.settle()
        reader.call("slow_down", "a", bytes_per_s)
        hit = reader.one(prompt)
        assert (hit.tokens, hit.num_cached) == (plain.one(prompt).tokens, num_cached)
        assert hit.shared["reason"] == ("complete" if num_cached else "recompute_chosen")


def test_who_computes_otherwise_shares_nothing(a, engines, controller):
    """Another dtype is another namespace."""
    other = engines(controller, "half", options={"dtype": "bfloat16"})
    prompt = prompt_of(1000)
    a.one(prompt, 1)
    a.settle()
    assert other.one(prompt, 1).num_cached == 0


def test_what_cannot_be_shared_is_refused_by_name(tmp_path, controller):
    """Blocks that fall out of a window are gone: a prefix of such a model cannot be shared."""
    settings = sharing(make_sliding_model(tmp_path), controller, "window")
    with Engine(settings) as engine:
        assert engine.call("refusal") == "kv_cache_spec = SlidingWindowSpec"
        assert len(engine.one(prompt_of(600), 4).tokens) == 4
        counted = engine.counters()
    assert counted == {"requests_refused/kv_cache_spec = SlidingWindowSpec": 1}


def test_hybrid_models_are_refused_and_run_all_the_same(tmp_path, controller):
    settings = sharing(make_hybrid_model(tmp_path), controller, "hybrid")
    prompt = prompt_of(600)
    with Engine(settings) as engine:
        assert engine.call("refusal") == "kv_cache_groups = 2"
        assert engine.one(prompt).tokens == engine.one(prompt, salt="alone").tokens
        assert engine.counters() == {"requests_refused/kv_cache_groups = 2": 2}


@pytest.mark.parametrize(
    "field",
    [
        "pipeline_parallel_size",
        "decode_context_parallel_size",
        "prefill_context_parallel_size",
    ],
)
def test_groups_that_split_layers_or_tokens_are_refused(a, field):
    assert a.call("refusal_with", field, 1) == ""
    assert a.call("refusal_with", field, 2) == f"{field} = 2"
