"""A worker's copies over real memory: what is loaded, saved, waited for and reported."""

import os
import threading

import msgspec
import numpy as np
import pytest

from p2p.agent.shared_arena import ArenaFile, SharedArena
from p2p.backend.device_ring import DeviceRing
from p2p.channel.staging import RingSize
from p2p.integrations.vllm.copies import Copies
from p2p.integrations.vllm.orders import LoadOrder, PoolOrder, SaveDone, SaveOrder
from p2p.integrations.vllm.rank_cache import CacheTensors, RankCache
from p2p.kernels import DeviceName
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
    return PoolOrder(arena.file, 2 * SHARD, LAYOUT, 2)


class Rank:
    """One worker with a paged cache of ten blocks in two layers; blocks move whole, or by heads."""

    def __init__(self, rank, num_heads=0, has_ring=False):
        heads, row = num_heads or LAYOUT.heads_per_rank, 2 * LAYOUT.head_dim
        self.layers = [np.zeros((10, heads, 4, row), np.float32) for _ in range(2)]
        self.cache = CacheTensors(self.layers, num_heads, DeviceName.parse("cpu"))
        self.rank = rank
        self.has_ring = has_ring
        self.copies = Copies(rank, self._open, self.cache.event)

    def fill(self, seed):
        for number, layer in enumerate(self.layers):
            layer[:] = np.random.default_rng((seed, number)).random(layer.shape)

    def block(self, number):
        return np.stack([layer[number] for layer in self.layers])

    def finish(self):
        """Lets the copying thread end, and collects what is over."""
        self.copies.close()
        return self.copies.collect()

    def save(self, pool, slot, *blocks):
        self.copies.submit_saves([SaveOrder(1, "r", (slot,), blocks)], pool)
        return self.finish()

    def load(self, pool, slot, *blocks):
        self.copies.submit_loads([LoadOrder("r", (slot,), blocks)], pool)
        return self.finish()

    def _open(self, pool):
        cache = RankCache(self.cache, pool, self.rank)
        if self.has_ring:  # the host stands in for a device: same code, streams that do nothing
            size = RingSize(pool.layout.chunk_bytes, 2)
            device = self.cache.device
            cache._copies._rings = (DeviceRing(device, size), DeviceRing(device, size))
        return cache


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
    gone = PoolOrder(ArenaFile("/nowhere/at/all", 0, 1), 2 * SHARD, LAYOUT, 2)
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


def test_a_layer_within_a_step_is_there_while_later_ones_are_not(pool, monkeypatch):
    rank, source = Rank(0), Rank(0)
    source.fill(1)
    source.save(pool, 0, 3, 4)
    may_go_on, scatter = threading.Semaphore(1), RankCache._scatter

    def slowly(self, *arguments):
        assert may_go_on.acquire(timeout=10)
        scatter(self, *arguments)

    monkeypatch.setattr(RankCache, "_scatter", slowly)
    rank.copies.submit_layers([LoadOrder("r", (0,), (0, 1))], pool)
    rank.copies.wait_layer(0)
    assert (rank.layers[0][[0, 1]] == source.layers[0][[3, 4]]).all()
    assert not rank.layers[1].any()
    may_go_on.release()
    rank.copies.wait_layer(1)
    assert (rank.layers[1][[0, 1]] == source.layers[1][[3, 4]]).all()
    over = rank.copies.collect()
    assert over.report.loads == ("r",)
    assert not over.loaded
    assert not over.failed_blocks
    assert over.report.load_bytes == SHARD


def test_a_step_ends_with_its_loads_whether_layers_waited_or_not(pool):
    rank = Rank(0)
    rank.fill(1)
    orders = [LoadOrder("r", (0,), (0, 1)), LoadOrder("s", (1,), (2, 3))]
    rank.copies.submit_layers(orders, pool)
    over = rank.copies.collect()
    assert over.report.loads == ("r", "s")
    assert not rank.block(0).any()
    assert not rank.block(3).any()


def test_layers_that_cannot_be_loaded_hold_up_nobody_and_are_reported():
    gone = PoolOrder(ArenaFile("/nowhere/at/all", 0, 1), 2 * SHARD, LAYOUT, 2)
    rank = Rank(0)
    rank.copies.submit_layers([LoadOrder("r", (0,), (-1, 8)), LoadOrder("s", (1,), (2, 3))], gone)
    rank.copies.wait_layer(0)
    rank.copies.wait_layer(1)
    over = rank.copies.collect()
    assert over.report.loads == ("r", "s")
    assert over.failed_blocks == {8, 2, 3}
    assert over.report.num_load_failures == 2


def test_loads_do_not_wait_for_saves(pool, monkeypatch):
    rank, may_save = Rank(0), threading.Event()
    monkeypatch.setattr(RankCache, "save", lambda *_: int(may_save.wait(10)))
    rank.copies.submit_saves([SaveOrder(1, "s", (1,), (2, 3))], pool)
    rank.copies.submit_loads([LoadOrder("r", (0,), (0, 1))], pool)
    rank.copies._loads.shutdown(wait=True)
    assert rank.copies.collect().loaded == {"r"}
    may_save.set()
    assert len(rank.finish().report.saves) == 1


# ---------------------------------------------------------------- numbers of ranks that differ

HEADS = msgspec.structs.replace(LAYOUT, tensor_parallel=1)  # a slot has the heads of all ranks


def group_of(num_ranks, has_ring=False):
    """The workers of one instance; with more ranks than heads, neighbours keep the same head."""
    num_heads = max(1, HEADS.num_kv_heads // num_ranks)
    return [Rank(rank, num_heads, has_ring) for rank in range(num_ranks)]


def fill_as_one(group, content):
    for rank in group:
        heads = rank.layers[0].shape[1]
        first = rank.rank * HEADS.num_kv_heads // len(group)
        for layer, all_heads in zip(rank.layers, content, strict=True):
            layer[:] = all_heads[:, first : first + heads]


@pytest.mark.parametrize("num_writers", [1, 2, 4, 8])
@pytest.mark.parametrize("num_readers", [1, 2, 4, 8])
@pytest.mark.parametrize("has_ring", [False, True])
def test_instances_of_any_number_of_ranks_read_each_others_heads(
    arena, num_writers, num_readers, has_ring
):
    content = np.random.default_rng(3).random((2, 10, HEADS.num_kv_heads, 4, 8)).astype(np.float32)
    writers, readers = group_of(num_writers, has_ring), group_of(num_readers, has_ring)
    fill_as_one(writers, content)
    saved = [
        each.save(PoolOrder(arena.file, HEADS.chunk_bytes, HEADS, num_writers), 2, 5, 1)
        for each in writers
    ]
    assert all(each.report.saves[0].is_stored for each in saved)
    assert sum(each.report.save_bytes for each in saved) == HEADS.chunk_bytes
    for each in readers:
        each.load(PoolOrder(arena.file, HEADS.chunk_bytes, HEADS, num_readers), 2, 7, 0)
    expected = group_of(num_readers)
    fill_as_one(expected, content)
    for reader, wanted in zip(readers, expected, strict=True):
        assert (reader.block(7) == wanted.block(5)).all()
        assert (reader.block(0) == wanted.block(1)).all()
        assert not reader.block(5).any()


def test_a_slot_has_layers_then_heads_then_blocks(arena):
    (writer,) = group_of(1)
    writer.fill(1)
    writer.save(PoolOrder(arena.file, HEADS.chunk_bytes, HEADS, 1), 0, 6, 2)
    picked = np.stack([layer[[6, 2]] for layer in writer.layers])  # L B H N C
    slot = arena.view(0, HEADS.chunk_bytes)
    assert (slot == np.ascontiguousarray(picked.swapaxes(1, 2)).view(np.uint8).reshape(-1)).all()


def test_copies_leave_the_core_that_the_engine_is_bound_to(pool):
    """The engine's thread computes there, and waits actively in between."""
    cores = os.sched_getaffinity(0)
    ended = threading.Event()
    before = threading.Thread(target=ended.wait)  # started before the engine was bound
    before.start()
    found = []
    try:
        os.sched_setaffinity(0, {min(cores)})
        rank = Rank(0)
        rank.copies._loads.submit(lambda: found.append(os.sched_getaffinity(0))).result()
        rank.finish()
    finally:
        os.sched_setaffinity(0, cores)
        ended.set()
        before.join()
    assert found == [cores]
