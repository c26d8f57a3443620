"""What happens to a reader's requests when something breaks: equal answers, within the budget."""

import dataclasses
import signal
import threading
import time
from contextlib import contextmanager

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm")

from tests.e2e.controller_process import ControllerProcess
from tests.e2e.vllm.engine import Engine
from tests.e2e.vllm.fixtures import CHUNK, Growth, introduce, prompt_of, sharing

pytestmark = [pytest.mark.vllm, pytest.mark.e2e, pytest.mark.fault, pytest.mark.slow]

BUDGET_S = 2.0
SLACK_S = 2.0  # for computing and for a busy machine


@pytest.fixture
def doomed(engines, own_controller):
    """A holder and a reader that have met, for a test that harms them."""
    holder, reader = engines(own_controller, "x"), engines(own_controller, "y", core=1)
    introduce(holder, reader)
    return holder, reader


@pytest.fixture(scope="module")
def pair(model):
    """A holder and a reader that have met; tests leave them as they were."""
    with (
        ControllerProcess() as controller,
        Engine(sharing(model, controller, "x")) as holder,
        Engine(sharing(model, controller, "y", core=1)) as reader,
    ):
        introduce(holder, reader)
        yield holder, reader


def held_prompt(holder, num_tokens=1000):
    prompt = prompt_of(num_tokens)
    holder.one(prompt, 1)
    holder.settle()
    return prompt


def num_cut(reader):
    """Returns how many of a reader's lookups have ended before everything was there."""
    counters = reader.settle().items()
    ended = {name: number for name, number in counters if name.startswith("lookups_ended/")}
    return sum(ended.values()) - ended.get("lookups_ended/complete", 0)


def settle_after_a_stop(holder, reader):
    """Waits until nothing is in flight and the two are on good terms again."""
    counters = reader.settle()
    assert counters["open"] == counters["backend_chunks_pinned"] == 0
    deadline_s = time.monotonic() + 20
    while not reader.one(held_prompt(holder, CHUNK + 1), 1).num_cached:
        assert time.monotonic() < deadline_s
        time.sleep(0.2)


@contextmanager
def throttled(engine, running_s, standing_s):
    """Lets an engine run for short times only."""
    is_over = threading.Event()

    def turn() -> None:
        while not is_over.wait(running_s):
            engine.signal(signal.SIGSTOP)
            is_over.wait(standing_s)
            engine.signal(signal.SIGCONT)

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def test_a_holder_that_is_killed_and_a_controller_that_is(plain, doomed, own_controller):
    holder, reader = doomed
    prompts = [held_prompt(holder) for _ in range(3)]
    expected = [plain.one(prompt).tokens for prompt in prompts]
    own_controller.end(signal.SIGKILL)
    orphaned = reader.one(prompts[0])  # who served last is asked directly
    assert orphaned.tokens == expected[0]
    assert orphaned.seconds < BUDGET_S + SLACK_S
    holder.signal(signal.SIGKILL)
    for prompt, tokens in zip(prompts[1:], expected[1:], strict=True):
        answer = reader.one(prompt)
        assert answer.tokens == tokens
        assert answer.seconds < BUDGET_S + SLACK_S
    assert reader.counters()["open"] == 0


def test_a_holder_that_stands_still_holds_up_nobody_else(plain, pair):
    holder, reader = pair
    prompt, other = held_prompt(holder), prompt_of(100)
    expected = [plain.one(each, 4).tokens for each in (prompt, other)]
    holder.signal(signal.SIGSTOP)
    reader.call("start", "waits", prompt, 4)
    reader.call("start", "runs", other, 4)
    ended = reader.call("run_for", BUDGET_S + SLACK_S)
    holder.signal(signal.SIGCONT)
    assert [ended[name][1] for name in ("waits", "runs")] == expected
    assert ended["runs"][0] < min(1.0, ended["waits"][0])


def test_a_holder_that_is_stopped_while_it_is_read_costs_no_more_than_the_budget(plain, pair):
    holder, reader = pair
    num_stopped = 0
    for delay_s in (0.0, 0.003, 0.009):
        prompt = held_prompt(holder, 3000)
        alone = plain.one(prompt, 4)
        before = num_cut(reader)
        reader.call("start", "read", prompt, 4)
        reader.send("run_for", BUDGET_S + SLACK_S + 2 * alone.seconds)
        time.sleep(delay_s)
        holder.signal(signal.SIGSTOP)
        took_s, tokens = reader.receive()["read"]
        holder.signal(signal.SIGCONT)
        assert tokens == alone.tokens
        assert took_s < BUDGET_S + 2 * alone.seconds + SLACK_S
        num_stopped += num_cut(reader) - before
        settle_after_a_stop(holder, reader)
    assert num_stopped > 0


def test_a_holder_that_runs_a_tenth_of_the_time_costs_no_more_than_the_budget(plain, pair):
    holder, reader = pair
    prompts = [held_prompt(holder, 2000) for _ in range(4)]
    alone = [plain.one(prompt, 4) for prompt in prompts]
    with throttled(holder, running_s=0.01, standing_s=0.09):
        hits = [reader.one(prompt, 4) for prompt in prompts]
    for hit, without in zip(hits, alone, strict=True):
        assert hit.tokens == without.tokens
        assert hit.seconds < BUDGET_S + 2 * without.seconds + SLACK_S
    settle_after_a_stop(holder, reader)


def test_a_request_that_is_aborted_leaves_nothing(pair):
    holder, reader = pair
    prompt = held_prompt(holder)
    threads = reader.call("num_threads")
    holder.signal(signal.SIGSTOP)
    reader.call("start", "aborted", prompt, 4)
    reader.call("run_for", 0.1)
    reader.call("abort", "aborted")
    assert reader.call("run_for", 0.2) == {}
    holder.signal(signal.SIGCONT)
    time.sleep(BUDGET_S)
    counters = reader.settle()
    assert counters["open"] == counters["backend_chunks_pinned"] == 0
    assert counters["backend_slots_free"] + counters["backend_chunks"] == 512
    assert reader.call("num_threads") <= threads + 1
    assert reader.one(prompt, 1).num_cached == 7 * CHUNK


def test_requests_that_are_aborted_at_any_moment_leave_nothing(plain, pair):
    holder, reader = pair
    prompts = [held_prompt(holder, 2000) for _ in range(12)]
    for number, prompt in enumerate(prompts):
        reader.call("start", f"r{number}", prompt, 64)
        reader.call("run_for", 0.003 * number)
        reader.call("abort", f"r{number}")
    reader.call("run_for", 0.5)
    counters = reader.settle()
    assert counters["open"] == counters["backend_chunks_pinned"] == 0
    assert reader.one(prompts[-1]).tokens == plain.one(prompts[-1]).tokens


def test_a_byte_that_flipped_is_noticed(plain, pair):
    holder, reader = pair
    prompt = held_prompt(holder)
    expected = plain.one(prompt).tokens
    holder.call("damage", prompt, 3)
    hit = reader.one(prompt)
    assert (hit.tokens, hit.num_cached) == (expected, 3 * CHUNK)
    assert hit.shared["reason"] == "digest_mismatch"


@pytest.mark.parametrize("num_tokens", [1000, 1024])
def test_a_load_that_fails_is_recomputed(plain, pair, num_tokens):
    holder, reader = pair
    prompt = held_prompt(holder, num_tokens)
    expected = plain.one(prompt).tokens
    grown = Growth(reader)
    reader.call("break_loads", 1)
    assert reader.one(prompt).tokens == expected
    assert grown["load_failures"] == 1
    assert grown["open"] == grown["backend_chunks_pinned"] == 0
    reader.forget()
    again = reader.one(prompt)
    assert (again.tokens, again.num_cached) == (expected, num_tokens // CHUNK * CHUNK)


def test_a_load_that_fails_ends_its_request_where_vllm_is_told_so(model, controller):
    """``kv_load_failure_policy`` is vLLM's, and ``fail`` its default."""
    settings = dataclasses.replace(sharing(model, controller, "strict", core=1), policy="fail")
    with Engine(settings) as engine:
        prompt = prompt_of(1000)
        engine.one(prompt)
        engine.forget()
        engine.call("break_loads", 1)
        assert engine.one(prompt).finish == "error"
        engine.forget()
        assert engine.one(prompt).num_cached == 7 * CHUNK


def test_chunks_that_were_evicted_meanwhile_are_a_miss(plain, pair):
    holder, reader = pair
    prompt = held_prompt(holder)
    holder.call("clear")
    hit = reader.one(prompt)
    assert (hit.tokens, hit.num_cached) == (plain.one(prompt).tokens, 0)


@pytest.mark.parametrize("load", ["async", "step"])
def test_preempted_requests_answer_the_same(plain, engines, own_controller, load):
    """Twelve requests in the blocks of four: saves and loads of blocks that are given away."""
    small = {"kv_bytes": 24 * 262_144, "options": {"max_model_len": 1024}, "load": load}
    holder = engines(own_controller, "x", **small)
    reader = engines(own_controller, "y", core=1, **small)
    introduce(holder, reader)
    common = prompt_of(256)
    prompts = [common + prompt_of(130 + 20 * number) for number in range(12)]
    expected = [answer.tokens for answer in plain.generate(prompts, 150)]
    for engine in (holder, reader, holder):
        engine.forget()
        assert [answer.tokens for answer in engine.generate(prompts, 150)] == expected
    assert holder.settle()["preemptions"] > 0
    counters = reader.settle()
    assert counters["open"] == counters["backend_chunks_pinned"] == 0


def test_a_pool_that_is_too_small_drops_saves_and_counts_them(plain, engines, own_controller):
    engine = engines(own_controller, "x", pool_bytes=4 * 262_144)
    prompts = [prompt_of(1000) for _ in range(4)]
    expected = [answer.tokens for answer in plain.generate(prompts)]
    assert [answer.tokens for answer in engine.generate(prompts)] == expected
    counters = engine.settle()
    dropped = counters["chunks_not_saved/pool_full"]
    assert dropped > 0
    assert counters["saved_chunks"] + dropped == 28


def test_a_controller_that_is_not_there_yet_costs_little(plain, engines, own_controller):
    growth_prompt = prompt_of(1000)
    own_controller.end(signal.SIGKILL)
    engine = engines(own_controller, "alone")
    answer = engine.one(growth_prompt)
    assert answer.tokens == plain.one(growth_prompt).tokens
    assert answer.seconds < BUDGET_S + SLACK_S


def test_sharing_costs_no_descriptors(pair):
    holder, reader = pair
    before = [engine.call("descriptors") for engine in pair]
    for _ in range(10):
        reader.one(held_prompt(holder), 2)
    assert Growth(reader)["open"] == 0
    after = [engine.call("descriptors") for engine in pair]
    assert max(b - a for a, b in zip(before, after, strict=True)) <= 4
