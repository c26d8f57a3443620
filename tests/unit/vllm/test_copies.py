"""A worker's copies over real memory: what is loaded, saved, waited for and reported."""

import numpy as np
import pytest

from p2p.agent.shared_arena import ArenaFile, SharedArena
from p2p.integrations.vllm.copies import Copies
from p2p.integrations.vllm.orders import LoadOrder, PoolOrder, SaveDone, SaveOrder
from p2p.kernels import PageAxes, PagedCache
from p2p.layout import ByteOrder, Layout

LAYOUT = Layout(2, 4, 4, "float32", 4, 8, tensor_parallel=2, byte_order=ByteOrder.OPAQUE)
SHARD = LAYOUT.chunk_bytes
NUM_SLOTS = 4


@pytest.fixture
def arena():
    arena = SharedArena(NUM_SLOTS * 2 * SHARD)
    yield arena
    arena.close()


@pytest.fixture
def pool(arena):
    return PoolOrder(arena.file, 2 * SHARD, LAYOUT)


class Rank:
    """One worker with a paged cache of ten blocks in two layers."""

    def __init__(self, rank):
        heads, row = LAYOUT.heads_per_rank, 2 * LAYOUT.head_dim
        self.layers = [np.zeros((10, heads, 4, row), np.float32) for _ in range(2)]
        self.copies = Copies(rank, self._open)

    def fill(self, seed):
        for number, layer in enumerate(self.layers):
            layer[:] = np.random.default_rng((seed, number)).random(layer.shape)

    def block(self, number):
        return np.stack([layer[number] for layer in self.layers])

    def finish(self):
        """Lets the copying thread end, and collects what is over."""
        self.copies.close()
        return self.copies.collect()

    def _open(self, pool):
        return PagedCache.for_layout(self.layers, PageAxes.OPAQUE, pool.layout)


def test_what_one_instance_saves_another_loads_rank_by_rank(pool):
    for rank in (0, 1):
        ours, theirs = Rank(rank), Rank(rank)
        ours.fill(rank)
        ours.copies.submit_saves([SaveOrder(7, "r", (2, 0), (1, 3, 5, 4))], pool)
        saved = ours.finish()
        assert saved.report.saves == (SaveDone(7, rank, True),)
        assert saved.report.save_bytes == 2 * SHARD
        theirs.copies.submit_loads([LoadOrder("s", (2, 0), (9, 8, 7, 6))], pool)
        loaded = theirs.finish()
        assert (loaded.loaded, loaded.failed_blocks) == ({"s"}, set())
        for saved_in, loaded_in in ((1, 9), (3, 8), (5, 7), (4, 6)):
            assert (ours.block(saved_in) == theirs.block(loaded_in)).all()
            assert theirs.block(loaded_in).any()


def test_ranks_do_not_touch_each_others_shards(pool, arena):
    first, second = Rank(0), Rank(1)
    first.fill(1)
    second.fill(2)
    first.copies.submit_saves([SaveOrder(1, "r", (1,), (0, 1))], pool)
    first.finish()
    before = arena.view(2 * SHARD, SHARD).copy()
    second.copies.submit_saves([SaveOrder(1, "r", (1,), (0, 1))], pool)
    second.finish()
    assert (arena.view(2 * SHARD, SHARD) == before).all()
    assert (arena.view(3 * SHARD, SHARD) != before).any()
    assert not arena.view(0, 2 * SHARD).any()


def test_blocks_that_a_request_has_already_stay_as_they_are(pool):
    rank = Rank(0)
    rank.fill(1)
    kept = rank.block(9).copy()
    rank.copies.submit_loads([LoadOrder("r", (0,), (-1, 8))], pool)
    rank.finish()
    assert (rank.block(9) == kept).all()
    assert not rank.block(8).any()


def test_a_pool_that_is_gone_fails_the_blocks_and_is_reported_all_the_same(pool):
    gone = PoolOrder(ArenaFile("/nowhere/at/all", 0, 1), 2 * SHARD, LAYOUT)
    rank = Rank(0)
    rank.copies.submit_loads([LoadOrder("r", (0,), (-1, 8))], gone)
    rank.copies.submit_saves([SaveOrder(3, "s", (1,), (0, 1))], gone)
    over = rank.finish()
    assert (over.loaded, over.failed_blocks) == ({"r"}, {8})
    assert over.report.num_load_failures == 1
    assert over.report.saves == (SaveDone(3, 0, False),)
    assert over.report.save_bytes == over.report.load_bytes == 0


def test_everything_is_reported_once(pool):
    rank = Rank(0)
    rank.copies.submit_loads([LoadOrder("r", (0,), (0, 1))], pool)
    rank.copies.submit_saves([SaveOrder(1, "s", (1,), (2, 3))], pool)
    rank.copies.watch(["s", "t"])
    rank.copies.close()
    first, second = rank.copies.collect(), rank.copies.collect()
    assert first.loaded == {"r"}
    assert first.unread == {"s", "t"}
    assert not second.loaded
    assert not second.unread
    assert second.report.saves == ()


def test_nothing_reads_the_blocks_of_a_preempted_request_any_more(pool, arena):
    rank = Rank(0)
    rank.fill(1)
    expected = np.concatenate([rank.block(0)[:, None], rank.block(1)[:, None]], axis=1)
    for number in range(50):
        rank.copies.submit_saves([SaveOrder(number, "r", (0,), (0, 1))], pool)
    rank.copies.wait_saves(["r", "unknown"])
    for layer in rank.layers:
        layer[:] = 0
    assert (arena.view(0, SHARD) == expected.view(np.uint8).reshape(-1)).all()
    assert len(rank.finish().report.saves) == 50


def test_a_load_within_a_step_is_over_when_it_returns(pool):
    rank = Rank(0)
    rank.fill(1)
    rank.copies.load_now([LoadOrder("r", (0,), (0, 1))], pool)
    assert not rank.block(0).any()
    assert rank.copies.collect().loaded == set()
