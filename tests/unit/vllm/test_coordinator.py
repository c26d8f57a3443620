"""The scheduler's half without vLLM: what is asked, loaded and saved, and that nothing is left."""

import pytest

from p2p.integrations.vllm.coordinator import Computed, Work
from p2p.integrations.vllm.orders import LoadOrder, RankReport, SaveDone
from tests.unit.vllm.fakes import BLOCK, CHUNK, Clock, FakeFabric, coordinator, keys_of, wanted


def computed(request, before, after, blocks=range(100)):
    return Computed(request, before, after, list(blocks))


def confirm(order, rank=0, is_stored=True):
    return RankReport(saves=(SaveDone(order.number, rank, is_stored),))


def assert_nothing_left(coordinator, fabric, num_chunks=0):
    coordinator.step([], [])
    assert coordinator.num_open == 0
    assert fabric.num_pinned == 0
    assert fabric.store.slots.num_free == fabric.num_slots - len(fabric.store.index)


# ---------------------------------------------------------------------- lookups and loads


def test_an_answer_that_is_not_there_is_none_until_it_is():
    fabric = FakeFabric(held=set(keys_of(3)), answers_at_once=False)
    it = coordinator(fabric)
    request = wanted("r", 100)
    assert it.ask(request, 0) is None
    assert it.ask(request, 0) is None
    assert len(fabric.fetches) == 1
    fabric.answer(fabric.fetches[0])
    assert it.ask(request, 0) == 3 * CHUNK


def test_a_step_waits_for_one_answer_at_most():
    fabric = FakeFabric(answers_at_once=False)
    it = coordinator(fabric)
    for name in ("r", "s", "t"):
        assert it.ask(wanted(name, 100), 0, patience_s=0.5) is None
    assert fabric.waited_s == [0.5]
    it.step([], [])
    assert it.ask(wanted("s", 100), 0, patience_s=0.5) is None
    assert fabric.waited_s == [0.5, 0.5]


def test_a_lookup_begins_when_the_request_comes():
    fabric = FakeFabric(held=set(keys_of(3)))
    it = coordinator(fabric)
    it.arrive(wanted("r", 100), num_local=CHUNK)
    assert [fetch.keys for fetch in fabric.fetches] == [keys_of(3)[1:]]
    assert it.ask(wanted("r", 100), CHUNK) == 2 * CHUNK
    assert len(fabric.fetches) == 1


def test_a_prompt_of_less_than_a_chunk_is_not_looked_for():
    fabric = FakeFabric()
    it = coordinator(fabric)
    assert it.ask(wanted("r", CHUNK - 1), 0) == 0
    assert fabric.fetches == []


def test_a_lookup_beyond_its_budget_is_given_up_and_counted():
    fabric, clock = FakeFabric(answers_at_once=False), Clock()
    it = coordinator(fabric, clock)
    request = wanted("r", 100)
    assert it.ask(request, 0) is None
    clock.now_s = 2.5
    assert it.ask(request, 0) == 0
    assert it.counters["lookups_ended/given_up"] == 1
    it.allocate("r", range(7), 0)
    assert fabric.abandoned == [fabric.fetches[0].handle]
    assert it.num_open == 0


@pytest.mark.parametrize("num_tokens", [96, 97, 127, 128])
@pytest.mark.parametrize("num_kept_back", [0, 1])
def test_a_token_is_left_to_compute_where_loads_are_within_steps(num_tokens, num_kept_back):
    fabric = FakeFabric(held=set(keys_of(4)))
    it = coordinator(fabric, num_kept_back=num_kept_back)
    most = (num_tokens - num_kept_back) // BLOCK * BLOCK
    assert it.ask(wanted("r", num_tokens), 0) == min(num_tokens // CHUNK * CHUNK, most)


def test_the_load_names_the_slots_and_leaves_blocks_alone_that_are_there():
    """The engine has one block of a chunk of two: the chunk is fetched, half of it is loaded."""
    fabric = FakeFabric(held=set(keys_of(4)))
    it = coordinator(fabric)
    assert it.ask(wanted("r", 128), CHUNK + BLOCK) == 128 - CHUNK - BLOCK
    it.allocate("r", list(range(50, 58)), 128 - CHUNK - BLOCK)
    (load,) = it.step([], []).loads
    slots = tuple(fabric.slot_of(key) for key in keys_of(4)[1:])
    assert load == LoadOrder("r", slots, (-1, 53, 54, 55, 56, 57))


def test_what_is_loaded_is_pinned_until_every_rank_has_it():
    fabric = FakeFabric(held=set(keys_of(3)))
    it = coordinator(fabric)
    it.ask(wanted("r", 96), 0)
    it.allocate("r", range(6), 96)
    it.step([], [])
    assert fabric.num_pinned == 3
    it.loaded(["r"])
    it.allocate("r", range(7), 0)  # vLLM calls a second time once it is loaded
    assert it.step([], []).loads == ()
    assert_nothing_left(it, fabric)


def test_an_aborted_load_keeps_its_chunks_until_it_is_over():
    fabric = FakeFabric(held=set(keys_of(3)))
    it = coordinator(fabric)
    it.ask(wanted("r", 96), 0)
    it.allocate("r", range(6), 96)
    it.step([], [])
    assert not it.finish("r").is_kept
    assert fabric.num_pinned == 3
    it.loaded(["r"])
    assert_nothing_left(it, fabric)


@pytest.mark.parametrize("is_answered", [False, True])
def test_a_request_aborted_before_it_has_blocks_leaves_nothing(is_answered):
    fabric = FakeFabric(held=set(keys_of(3)), answers_at_once=is_answered)
    it = coordinator(fabric)
    it.ask(wanted("r", 96), 0)
    it.finish("r")
    assert len(fabric.abandoned) == (not is_answered)
    assert_nothing_left(it, fabric)


def test_what_the_engine_has_lost_meanwhile_is_looked_for_again():
    fabric = FakeFabric(held=set(keys_of(4)))
    it = coordinator(fabric)
    it.arrive(wanted("r", 128), num_local=2 * CHUNK)
    assert it.ask(wanted("r", 128), 0) is None
    assert it.ask(wanted("r", 128), 0) == 128
    assert it.counters["lookups_restarted"] == 1
    it.finish("r")
    assert_nothing_left(it, fabric)


def test_an_engine_that_keeps_losing_blocks_is_left_alone_in_the_end():
    fabric = FakeFabric(held=set(keys_of(8)))
    it = coordinator(fabric)
    it.arrive(wanted("r", 256), num_local=7 * CHUNK)
    answers = [it.ask(wanted("r", 256), number * CHUNK) for number in (6, 5, 4, 3)]
    assert answers == [None, None, None, 0]
    it.finish("r")
    assert_nothing_left(it, fabric)


def test_what_the_engine_has_gained_meanwhile_is_not_loaded():
    fabric = FakeFabric(held=set(keys_of(4)))
    it = coordinator(fabric)
    it.arrive(wanted("r", 128), num_local=0)
    assert it.ask(wanted("r", 128), 3 * CHUNK) == CHUNK
    it.allocate("r", range(8), CHUNK)
    (load,) = it.step([], []).loads
    assert load.slots == (fabric.slot_of(keys_of(4)[3]),)
    assert load.blocks == (6, 7)


def test_a_preempted_request_is_looked_for_again():
    fabric = FakeFabric(held=set(keys_of(2)))
    it = coordinator(fabric)
    for _ in range(2):
        assert it.ask(wanted("r", 64), 0) == 64
        it.allocate("r", range(4), 64)
        assert len(it.step([], []).loads) == 1
        it.loaded(["r"])
    assert len(fabric.fetches) == 2
    assert_nothing_left(it, fabric)


def test_the_summary_says_how_much_from_whom_and_why_not_more():
    fabric = FakeFabric(held=set(keys_of(2)))
    it = coordinator(fabric)
    it.ask(wanted("r", 128), 0)
    it.allocate("r", range(8), 64)
    it.loaded(["r"])
    summary = it.finish("r").summary
    assert summary is not None
    assert (summary.external_tokens, summary.reason) == (64, "no_holder")
    assert [(source.instance, source.chunks) for source in summary.sources] == [("peer", 2)]


# ---------------------------------------------------------------------- saves


def test_chunks_are_saved_once_they_are_complete():
    fabric = FakeFabric()
    it = coordinator(fabric)
    request = wanted("r", 100)
    assert it.step([computed(request, 0, CHUNK - 1)], []).saves == ()
    (save,) = it.step([computed(request, CHUNK - 1, 100, range(20, 27))], []).saves
    assert (save.request, save.blocks) == ("r", (20, 21, 22, 23, 24, 25))
    assert len(set(save.slots)) == 3


def test_a_chunk_is_found_by_nobody_before_every_rank_has_confirmed():
    fabric = FakeFabric()
    it = coordinator(fabric, num_ranks=2)
    (save,) = it.step([computed(wanted("r", 64), 0, 64)], []).saves
    it.report(confirm(save, rank=0))
    it.report(confirm(save, rank=0))  # twice from one rank is not both
    fabric.finish_commits()
    assert len(fabric.store.index) == 0
    it.report(confirm(save, rank=1))
    fabric.finish_commits()
    assert len(fabric.store.index) == 2
    assert it.counters["unexpected/save_confirmation"] == 1
    assert_nothing_left(it, fabric)


def test_nothing_is_saved_twice():
    fabric = FakeFabric()
    it = coordinator(fabric)
    first, second = wanted("r", 64), wanted("s", 96)
    orders = it.step([computed(first, 0, 64), computed(second, 0, 96)], [])
    assert [len(save.slots) for save in orders.saves] == [2, 1]
    for save in orders.saves:
        it.report(confirm(save))
    third = it.step([computed(wanted("t", 96), 0, 96)], [])  # confirmed, digests not taken yet
    assert third.saves == ()
    fabric.finish_commits()
    assert it.step([computed(wanted("u", 96), 0, 96)], []).saves == ()
    assert it.counters["saved_chunks"] == 3
    assert_nothing_left(it, fabric)


def test_a_full_pool_drops_saves_and_counts_them():
    fabric = FakeFabric(num_slots=2)
    it = coordinator(fabric)
    (save,) = it.step([computed(wanted("r", 128), 0, 128)], []).saves
    assert len(save.slots) == 2
    assert it.counters["chunks_not_saved/pool_full"] == 2


def test_what_is_beyond_the_backlog_is_dropped_and_counted():
    fabric = FakeFabric()
    it = coordinator(fabric, save_backlog_chunks=3)
    (save,) = it.step([computed(wanted("r", 160), 0, 160)], []).saves
    assert len(save.slots) == 3
    assert it.counters["chunks_not_saved/backlog"] == 2


def test_a_save_that_failed_gives_its_slots_back():
    fabric = FakeFabric()
    it = coordinator(fabric)
    (save,) = it.step([computed(wanted("r", 64), 0, 64)], []).saves
    it.report(confirm(save, is_stored=False))
    assert it.counters["chunks_not_saved/copy_failed"] == 2
    assert_nothing_left(it, fabric)
    assert len(it.step([computed(wanted("s", 64), 0, 64)], []).saves) == 1


def test_blocks_of_an_ended_request_are_kept_while_they_are_read():
    fabric = FakeFabric()
    it = coordinator(fabric)
    (save,) = it.step([computed(wanted("r", 64), 0, 64)], []).saves
    assert it.finish("r").is_kept
    assert it.step([], []).awaited == ("r",)
    assert it.step([], []).awaited == ()
    it.report(confirm(save))
    assert not it.finish("s").is_kept


def test_the_workers_are_told_of_preemptions():
    assert coordinator(FakeFabric()).step([], ["r"]).preempted == ("r",)


def test_a_step_without_copies_is_small():
    orders = coordinator(FakeFabric()).step([], [])
    assert orders.pool is None


# ---------------------------------------------------------------- loads within a step, pace


def test_a_load_within_a_step_is_over_when_every_rank_has_told():
    fabric = FakeFabric(held=set(keys_of(3)))
    it = coordinator(fabric, num_ranks=2, num_kept_back=1)
    assert it.ask(wanted("r", 100), 0) == 3 * CHUNK
    it.allocate("r", range(7), 3 * CHUNK)
    it.step([], [])
    it.report(RankReport(loads=("r",)))
    assert fabric.num_pinned == 3
    it.report(RankReport(loads=("r",)))
    assert_nothing_left(it, fabric)


def test_steps_of_prompts_tell_how_fast_they_are_computed():
    fabric, clock = FakeFabric(), Clock()
    it = coordinator(fabric, clock)
    prompts = it.step([], [], Work(num_prompt_tokens=500, num_tokens=510))
    answers = it.step([], [], Work(num_prompt_tokens=0, num_tokens=10))
    clock.now_s = 0.25
    it.report(RankReport(timed=(prompts.timed, prompts.timed)))  # of two ranks
    assert answers.timed == 0
    assert fabric.prefills == [(500, 0.25)]


def test_a_step_that_was_scheduled_ahead_begins_when_the_one_before_has_ended():
    fabric, clock = FakeFabric(), Clock()
    it = coordinator(fabric, clock)
    first, second = (it.step([], [], Work(400, 400)).timed for _ in range(2))
    clock.now_s = 1.0
    it.report(RankReport(timed=(first,)))
    clock.now_s = 1.5
    it.report(RankReport(timed=(second,)))
    assert fabric.prefills == [(400, 1.0), (400, 0.5)]


@pytest.mark.parametrize("work", [Work(31, 31), Work(100, 201), Work()])
def test_steps_that_are_mostly_of_answers_tell_nothing(work):
    it = coordinator(FakeFabric())
    assert it.step([], [], work).timed == 0


def test_a_step_that_waits_for_its_loads_tells_nothing():
    fabric = FakeFabric(held=set(keys_of(3)))
    it = coordinator(fabric, num_kept_back=1)
    it.ask(wanted("r", 200), 0)
    it.allocate("r", range(13), 3 * CHUNK)
    assert it.step([], [], Work(104, 104)).timed == 0
