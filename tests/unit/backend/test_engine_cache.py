"""An engine's cache over a real core and pool: put, save by layers, fetch and load by layers.

What a fetch brings is what the instance stored itself; peers are in `tests/e2e`.
"""

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest

from p2p.agent.slots import SlotState
from p2p.backend.actions import FetchOutcome, ShortReason
from p2p.backend.cache_copies import CacheCopies, CacheDescription
from p2p.backend.engine_cache import CacheParts, EngineCache
from p2p.backend.engine_parts import FetchWatch
from p2p.backend.intake import Intake
from p2p.backend.loading import LoadOrder
from p2p.backend.pool import Pool, PoolMemory
from p2p.backend.present import PresentChunks
from p2p.backend.results import FetchRequest, FetchResult, Handle
from p2p.errors import ArgumentError, ClosedError, DeviceError, LocalError
from p2p.kernels import SKIP_BLOCK, DeviceName, HeadRange, PageAxes
from p2p.keys import chunk_keys
from p2p.layout import Layout
from tests.unit.backend.builders import instance_core
from tests.unit.backend.engine_caches import LAYOUT, NUM_BLOCKS, Paged, paged

CPU = DeviceName.parse("cpu")
PER_CHUNK = LAYOUT.chunk_tokens // LAYOUT.block_tokens
KEYS = chunk_keys(range(4 * LAYOUT.chunk_tokens), LAYOUT.chunk_tokens)
BLOCKS = [int(block) for block in np.random.default_rng(0).permutation(NUM_BLOCKS)[:16]]
TARGETS = [int(block) for block in np.random.default_rng(1).permutation(NUM_BLOCKS)[:16]]


class OneInstance:
    """What a backend is to a cache: a real core, pool and intake, and fetches of what is here."""

    def __init__(self, num_slots: int = 16) -> None:
        self.core = instance_core(num_slots=num_slots)
        self.lock = threading.RLock()
        self.pool = self.make_pool(num_slots * LAYOUT.chunk_bytes, LAYOUT)
        self.num_wakes = 0
        self.intake = Intake(self.core, self.lock, self.pool, self._wake)
        self.saver, self.loader = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self.requests: list[FetchRequest] = []
        self.held: list[tuple[FetchRequest, FetchWatch]] = []

    def make_pool(self, pool_bytes: int, layout: Layout) -> PoolMemory:
        return Pool(pool_bytes, layout)

    def _wake(self) -> None:
        self.num_wakes += 1

    def register(self, cache: Paged, heads: HeadRange | None = None) -> EngineCache:
        description = CacheDescription(cache.tensors, cache.axes, heads=heads)
        parts = CacheParts(
            intake=self.intake,
            put=self.intake.put,
            submit_put=self._submit_put,
            fetch=self.fetch,
            start_fetch=lambda request, watch: self.held.append((request, watch)),
            result_of=self.result_of,
            present=PresentChunks(self.core, self.lock, self.pool),
            saver=self.saver,
            loader=self.loader,
        )
        return EngineCache(CacheCopies(description, LAYOUT, CPU), parts)

    def _submit_put(self, keys, source, tenant):
        future = self.saver.submit(self.intake.put, keys, source, tenant)
        return Handle(
            lambda: future.result() if future.done() else None,
            lambda timeout_s: _ignore(wait([future], timeout_s)),
        )

    def fetch(self, request: FetchRequest, watch: FetchWatch) -> FetchOutcome:
        """What is here, all at once."""
        self.requests.append(request)
        outcome = self.take(request.keys, request.tenant)
        watch.on_done(outcome)
        return outcome

    def take(self, keys, tenant: str = "") -> FetchOutcome:
        entries = self.core.index.prefix(keys, tenant)
        for entry in entries:
            self.core.index.pin(entry)
        is_all = len(entries) == len(keys)
        reason = ShortReason.COMPLETE if is_all else ShortReason.NO_HOLDER
        return FetchOutcome(entries, reason, phases_s={"done": 0.5}, request_id="r")

    def go_on(self) -> None:
        """The fetch that is under way has brought more."""
        self.held[-1][1].on_progress()

    def end(self) -> None:
        """The fetch that is under way ends."""
        self.fetch(*self.held.pop())

    def result_of(self, outcome: FetchOutcome) -> FetchResult:
        def release() -> None:
            for entry in outcome.entries:
                self.core.unpin(entry)

        views = [self.pool.view(entry.slot) for entry in outcome.entries]
        return FetchResult(views, outcome, release)

    @property
    def num_pinned(self) -> int:
        return sum(entry.num_pins for entry in self.core.index)

    def close(self) -> None:
        self.saver.shutdown()
        self.loader.shutdown()


@pytest.fixture
def one() -> Iterator[OneInstance]:
    instance = OneInstance()
    yield instance
    assert instance.num_pinned == 0
    instance.close()


def _ignore(_: object) -> None:
    """Makes a waiting function."""


def wanted(holder: Paged, sources: list[int], targets: list[int], base: Paged):
    expected = base.content.copy()
    for source, target in zip(sources, targets, strict=False):
        if target != SKIP_BLOCK:
            expected[:, :, target] = holder.content[:, :, source]
    return expected


def test_what_is_put_from_blocks_is_fetched_into_others(one):
    holder, reader = paged(PageAxes.KV_FIRST_NHD, 1), paged(PageAxes.CROSS_LAYER_HND, 2)
    report = one.register(holder).put(KEYS, BLOCKS, "t")
    assert (report.num_stored, report.num_present, report.num_refused) == (4, 0, 0)
    expected = wanted(holder, BLOCKS, TARGETS, reader)
    loaded = one.register(reader).fetch(FetchRequest(KEYS, tenant="t"), TARGETS)
    assert (loaded.num_chunks, loaded.reason) == (4, ShortReason.COMPLETE)
    assert np.array_equal(reader.content, expected)
    again = one.register(holder).submit_put(KEYS[:2], BLOCKS[:8]).wait(30)
    assert again is not None
    assert (again.num_stored, again.num_present) == (0, 2)


@pytest.mark.parametrize(
    ("targets", "asked", "skipped"),
    [
        (TARGETS[:-3], KEYS, 0),  # the last block of a prompt is computed anew
        ([SKIP_BLOCK] * 5 + TARGETS[5:], KEYS[1:], 1),  # the engine has the first blocks
        ([SKIP_BLOCK] * 4 + TARGETS[4:9], KEYS[1:3], 1),
        ([*TARGETS[:2], SKIP_BLOCK, *TARGETS[3:]], KEYS, 0),
    ],
)
def test_only_what_is_wanted_is_fetched_and_written(one, targets, asked, skipped):
    holder, reader = paged(PageAxes.BLOCK_FIRST_HND, 1), paged(PageAxes.SEPARATE_NHD, 2)
    one.register(holder).put(KEYS, BLOCKS)
    expected = wanted(holder, BLOCKS, targets, reader)
    loaded = one.register(reader).fetch(FetchRequest(KEYS, tenant="t"), targets)
    assert (loaded.num_chunks, loaded.num_skipped) == (skipped + len(asked), skipped)
    assert one.requests == [FetchRequest(asked, tenant="t")]
    assert np.array_equal(reader.content, expected)


def test_nothing_wanted_is_nothing_fetched(one):
    cache = one.register(paged(PageAxes.KV_FIRST_NHD, 0))
    assert cache.fetch(FetchRequest(KEYS), []).num_chunks == 4
    loading = cache.submit_fetch(FetchRequest(KEYS), [SKIP_BLOCK] * 16)
    assert loading.poll() == cache.fetch(FetchRequest(KEYS), [])
    assert one.requests == []


def test_a_short_fetch_leaves_the_other_blocks_alone(one):
    holder, reader = paged(PageAxes.KV_FIRST_NHD, 1), paged(PageAxes.KV_FIRST_HND, 2)
    one.register(holder).put(KEYS[:2], BLOCKS[:8])
    expected = wanted(holder, BLOCKS[:8], TARGETS, reader)
    loaded = one.register(reader).fetch(FetchRequest(KEYS), TARGETS)
    assert (loaded.num_chunks, loaded.reason) == (2, ShortReason.NO_HOLDER)
    assert np.array_equal(reader.content, expected)


class Gate:
    """Lets one copy after the other into a cache, and notes which layers were written then."""

    def __init__(self, cache: EngineCache, content) -> None:
        self._scatter = cache._copies.scatter
        self.content = content
        self.may_copy = threading.Semaphore(0)
        self.parts: list[object] = []
        cache._copies.scatter = self  # type: ignore[method-assign]

    def __call__(self, part, rows, slots, after) -> None:
        assert self.may_copy.acquire(timeout=30)
        self.parts.append(part)
        self._scatter(part, rows, slots, after)


def test_a_layer_can_be_used_while_later_ones_are_copied(one):
    holder, reader = paged(PageAxes.KV_FIRST_NHD, 1), paged(PageAxes.CROSS_LAYER_HND, 0)
    one.register(holder).put(KEYS, BLOCKS)
    cache = one.register(reader)
    gate = Gate(cache, reader.content)
    loading = cache.submit_fetch(FetchRequest(KEYS), TARGETS, LoadOrder.LAYERS)
    assert loading.wait_fetched(0) is None
    one.end()  # the fetch ends
    assert loading.wait_fetched(30) == 4
    expected = np.zeros_like(reader.content)
    for layer in range(LAYOUT.num_layers):
        assert not loading.wait_layer(layer, 0)
        assert loading.poll() is None
        gate.may_copy.release()
        assert loading.wait_layer(layer, 30)
        expected[layer, :, TARGETS] = holder.content[layer, :, BLOCKS]
        assert np.array_equal(reader.content, expected)
    report = loading.wait(30)
    assert report is not None
    assert (report.num_chunks, report.fetch_s) == (4, 0.5)
    assert gate.parts == cache._copies.layers


def test_by_chunks_every_layer_comes_at_the_end(one):
    holder, reader = paged(PageAxes.KV_FIRST_NHD, 1), paged(PageAxes.CROSS_LAYER_HND, 0)
    one.register(holder).put(KEYS, BLOCKS)
    cache = one.register(reader)
    gate = Gate(cache, reader.content)
    loading = cache.submit_fetch(FetchRequest(KEYS), TARGETS)
    one.end()
    assert loading.wait_fetched(30) == 4
    assert not loading.wait_layer(0, 0.01)
    gate.may_copy.release()
    assert loading.wait_layer(0, 30)
    expected = wanted(holder, BLOCKS, TARGETS, paged(PageAxes.CROSS_LAYER_HND, 0))
    assert np.array_equal(reader.content, expected)


def test_chunks_are_written_while_others_are_on_their_way(one):
    holder, reader = paged(PageAxes.KV_FIRST_NHD, 1), paged(PageAxes.CROSS_LAYER_HND, 0)
    stored, cache = one.register(holder), one.register(reader)
    base = paged(PageAxes.CROSS_LAYER_HND, 0)
    copies: list[int] = []
    scatter = cache._copies.scatter

    def counted(part, rows, slots, after) -> None:
        copies.append(len(slots))
        scatter(part, rows, slots, after)

    cache._copies.scatter = counted
    stored.put(KEYS[:1], BLOCKS[:4])
    loading = cache.submit_fetch(FetchRequest(KEYS), TARGETS)
    for num_here in (1, 3):
        stored.put(KEYS[:num_here], BLOCKS[: 4 * num_here])
        one.go_on()
        one.loader.submit(lambda: None).result(30)
        assert np.array_equal(reader.content, wanted(holder, BLOCKS[: 4 * num_here], TARGETS, base))
        assert loading.wait_fetched(0) is None
        assert one.num_pinned == 0
    stored.put(KEYS, BLOCKS)
    one.end()
    report = loading.wait(30)
    assert report is not None
    assert report.num_chunks == 4
    assert np.array_equal(reader.content, wanted(holder, BLOCKS, TARGETS, base))
    assert copies == [1, 2, 1]


def test_what_another_tenant_stored_is_not_written(one):
    reader = paged(PageAxes.CROSS_LAYER_HND, 0)
    one.register(paged(PageAxes.KV_FIRST_NHD, 1)).put(KEYS, BLOCKS, "t")
    loading = one.register(reader).submit_fetch(FetchRequest(KEYS, tenant="u"), TARGETS)
    one.go_on()
    one.end()
    report = loading.wait(30)
    assert report is not None
    assert report.num_chunks == 0
    assert not reader.content.any()


def test_a_copy_that_fails_early_stops_the_load(one):
    one.register(paged(PageAxes.KV_FIRST_NHD, 1)).put(KEYS, BLOCKS)
    cache = one.register(paged(PageAxes.KV_FIRST_NHD, 0))
    num_copies: list[int] = []

    def scatter(part, rows, slots, after) -> None:
        num_copies.append(len(slots))
        raise DeviceError("the device is lost")

    cache._copies.scatter = scatter
    loading = cache.submit_fetch(FetchRequest(KEYS), TARGETS)
    one.go_on()
    one.go_on()
    with pytest.raises(DeviceError):
        loading.wait(30)
    one.end()
    one.loader.submit(lambda: None).result(30)
    assert num_copies == [4]


@pytest.mark.parametrize(
    ("problem", "raised"),
    [(DeviceError("the device is lost"), DeviceError), (ZeroDivisionError("a bug"), LocalError)],
)
def test_a_copy_that_fails_is_told_and_pins_nothing(one, problem, raised):
    one.register(paged(PageAxes.KV_FIRST_NHD, 1)).put(KEYS, BLOCKS)
    cache = one.register(paged(PageAxes.KV_FIRST_NHD, 0))

    def scatter(part, rows, slots, after) -> None:
        raise problem

    cache._copies.scatter = scatter
    loading = cache.submit_fetch(FetchRequest(KEYS), TARGETS, LoadOrder.LAYERS)
    one.end()
    with pytest.raises(raised, match=str(problem)):
        loading.wait(30)
    one.loader.submit(lambda: None).result(30)
    assert one.num_pinned == 0


# ---------------------------------------------------------------------- saving by layers


def test_layers_that_are_saved_become_chunks(one):
    holder, reader = paged(PageAxes.SEPARATE_HND, 1), paged(PageAxes.SEPARATE_HND, 0)
    cache = one.register(holder)
    cache.put(KEYS[:1], BLOCKS[:4])
    before = one.num_wakes
    with cache.save(KEYS, BLOCKS, "t") as saving:
        for layer in range(LAYOUT.num_layers):
            saving.save_layer(layer)
        assert len(one.core.index) == 1
        report = saving.commit()
    assert (report.num_stored, report.num_present) == (3, 1)
    assert one.num_wakes == before + 1
    assert {one.core.index.get(key).tenants for key in KEYS[1:]} == {("t",)}
    loaded = one.register(reader).fetch(FetchRequest(KEYS, tenant="t"), TARGETS)
    assert loaded.num_chunks == 4
    expected = wanted(holder, BLOCKS, TARGETS, paged(PageAxes.SEPARATE_HND, 0))
    assert np.array_equal(reader.content, expected)
    with pytest.raises(ClosedError):
        saving.save_layer(0)
    with pytest.raises(ClosedError):
        saving.commit()


def test_what_is_not_committed_is_given_up(one):
    cache = one.register(paged(PageAxes.KV_FIRST_NHD, 1))
    with cache.save(KEYS, BLOCKS) as saving:
        saving.save_layer(0)
        with pytest.raises(ArgumentError, match="layer = 3: the cache has 3 layers"):
            saving.save_layer(3)
        with pytest.raises(ArgumentError, match="layer = 0: is saved once"):
            saving.save_layer(0)
        assert one.core.slots.count(SlotState.FILLING) == 4
    assert one.core.slots.num_free == 16
    with cache.save(KEYS, BLOCKS) as saving:
        saving.save_layer(1)
        with pytest.raises(ArgumentError, match="layer = 0: was not saved"):
            saving.commit()
        assert one.core.slots.num_free == 16


def test_a_layer_whose_copy_fails_gives_all_up(one):
    cache = one.register(paged(PageAxes.KV_FIRST_NHD, 1))
    entered, may_leave = threading.Event(), threading.Event()

    def gather(part, rows, slots, after) -> None:
        entered.set()
        may_leave.wait(30)
        raise DeviceError("the device is lost")

    cache._copies.gather = gather
    with cache.save(KEYS, BLOCKS) as saving:
        for layer in range(3):
            saving.save_layer(layer)
        assert entered.wait(30)
        giving_up = threading.Thread(target=saving.give_up)
        giving_up.start()
        time.sleep(0.02)
        assert one.core.slots.count(SlotState.FILLING) == 4  # somebody still writes
        may_leave.set()
        giving_up.join(30)
        assert one.core.slots.num_free == 16
    with cache.save(KEYS, BLOCKS) as saving:
        for layer in range(3):
            saving.save_layer(layer)
        with pytest.raises(DeviceError):
            saving.commit()
    assert one.core.slots.num_free == 16


def test_a_put_whose_copy_fails_gives_the_rest_up(one):
    cache = one.register(paged(PageAxes.KV_FIRST_NHD, 1))

    def gather(part, rows, slots, after) -> None:
        raise DeviceError("the device is lost")

    cache._copies.gather = gather
    with pytest.raises(DeviceError):
        cache.put(KEYS, BLOCKS)
    assert one.core.slots.num_free == 16


def test_saving_ends_with_the_backend(one):
    cache = one.register(paged(PageAxes.KV_FIRST_NHD, 1))
    with cache.save(KEYS, BLOCKS) as saving:
        one.saver.shutdown()
        with pytest.raises(ClosedError, match="the backend is closed"):
            saving.save_layer(0)


def test_what_does_not_fit_is_refused_before_anything_starts(one):
    cache = one.register(paged(PageAxes.KV_FIRST_NHD, 1))
    for call in (cache.put, cache.submit_put, cache.save):
        with pytest.raises(ArgumentError, match="block_ids = 15: 4 chunks have 16 blocks"):
            call(KEYS, BLOCKS[:-1])
        with pytest.raises(ArgumentError, match=f"block_ids = {NUM_BLOCKS}: the cache has"):
            call(KEYS, [*BLOCKS[:-1], NUM_BLOCKS])
    for fetch in (cache.fetch, cache.submit_fetch):
        with pytest.raises(ArgumentError, match="block_ids = 17"):
            fetch(FetchRequest(KEYS), [*TARGETS, 39])
        with pytest.raises(ArgumentError, match=f"block_ids = {NUM_BLOCKS}: the cache has"):
            fetch(FetchRequest(KEYS), [NUM_BLOCKS])
    some = one.register(paged(PageAxes.KV_FIRST_NHD, 1), HeadRange(0, 0, 2))
    with pytest.raises(ArgumentError, match="a chunk is stored with all of its heads"):
        some.put(KEYS, BLOCKS)
    assert one.requests == []
    assert one.core.slots.num_free == 16


# ---------------------------------------------------------------------- closing


def test_a_cache_that_is_closed_during_a_fetch_is_not_touched_any_more(one):
    one.register(paged(PageAxes.KV_FIRST_NHD, 1)).put(KEYS, BLOCKS)
    reader = paged(PageAxes.CROSS_LAYER_HND, 0)
    cache = one.register(reader)
    loading = cache.submit_fetch(FetchRequest(KEYS), TARGETS)
    cache.close()
    one.go_on()
    one.end()
    with pytest.raises(ClosedError, match="the paged cache was closed"):
        loading.wait(30)
    assert not reader.content.any()
    one.loader.submit(lambda: None).result(30)
    assert one.num_pinned == 0


def test_closing_waits_for_the_layer_that_is_being_copied(one):
    one.register(paged(PageAxes.KV_FIRST_NHD, 1)).put(KEYS, BLOCKS)
    reader = paged(PageAxes.CROSS_LAYER_HND, 0)
    cache = one.register(reader)
    entered, may_leave = threading.Event(), threading.Event()
    first = cache._copies.layers[0]
    scatter = first.cache.scatter

    def slowly(*arguments) -> None:
        entered.set()
        may_leave.wait(30)
        scatter(*arguments)

    first.cache.scatter = slowly
    loading = cache.submit_fetch(FetchRequest(KEYS), TARGETS, LoadOrder.LAYERS)
    one.end()
    assert entered.wait(30)
    closing = threading.Thread(target=cache.close)
    closing.start()
    time.sleep(0.02)
    assert closing.is_alive()
    may_leave.set()
    closing.join(30)
    assert reader.content[0].any()
    with pytest.raises(ClosedError):
        loading.wait(30)
    assert not reader.content[1:].any()


def test_what_is_saved_is_given_up_with_its_cache(one):
    cache = one.register(paged(PageAxes.KV_FIRST_NHD, 1))
    with cache.save(KEYS, BLOCKS) as saving:
        saving.save_layer(0)
        cache.close()
        saving.save_layer(1)
        saving.save_layer(2)
        with pytest.raises(ClosedError, match="the paged cache was closed"):
            saving.commit()
    assert one.core.slots.num_free == 16
    assert len(one.core.index) == 0


def test_a_closed_cache_refuses_and_lets_go_of_the_tensors(one):
    holder = paged(PageAxes.KV_FIRST_NHD, 1)
    kept_alive = weakref.ref(holder.tensors[0])
    with one.register(holder) as cache:
        put = cache.submit_put(KEYS, BLOCKS)
        assert put.wait(30)
        loading = cache.submit_fetch(FetchRequest(KEYS), TARGETS, LoadOrder.LAYERS)
    cache.close()
    for call in (cache.put, cache.submit_put, cache.save):
        with pytest.raises(ClosedError):
            call(KEYS, BLOCKS)
    for fetch in (cache.fetch, cache.submit_fetch):
        with pytest.raises(ClosedError):
            fetch(FetchRequest(KEYS), TARGETS)
    del holder
    gc.collect()
    assert kept_alive() is None
    assert loading.poll() is None
    assert len(one.core.index) == 4, "what was stored stays"
