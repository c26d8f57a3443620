"""Two instances in processes of their own share chunks between paged caches of other layouts."""

import threading
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from p2p.backend import (
    CacheDescription,
    EngineCache,
    FetchRequest,
    LoadOrder,
    P2PBackend,
    ShortReason,
)
from p2p.kernels import SKIP_BLOCK, PageAxes
from tests.e2e.controller_process import ControllerProcess
from tests.e2e.paged_holder_process import (
    KEYS,
    LAYOUT,
    NUM_CHUNKS,
    PER_CHUNK,
    PagedHolderProcess,
    blocks_of,
    holder_cache,
    start_backend,
)
from tests.unit.backend.engine_caches import Paged, paged

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

HOLDER, READER = 11, 12
TARGETS = blocks_of(READER)
SOURCES = blocks_of(HOLDER)


@pytest.fixture
def controller() -> Iterator[ControllerProcess]:
    with ControllerProcess() as process:
        yield process


@pytest.fixture
def reader(controller: ControllerProcess) -> Iterator[P2PBackend]:
    with start_backend(controller.address, "reader") as backend:
        assert backend.wait_advertised(20)
        yield backend


def register(backend: P2PBackend, cache: Paged) -> EngineCache:
    return backend.register_cache(CacheDescription(cache.tensors, cache.axes))


def expected_content(before: npt.NDArray[np.float16], targets: list[int]):
    """What the reader's cache must hold: the holder's blocks, and what nobody asked for."""
    content = before.copy()
    held = holder_cache(HOLDER).content
    for source, target in zip(SOURCES, targets, strict=False):
        if target != SKIP_BLOCK:
            content[:, :, target] = held[:, :, source]
    return content


@pytest.mark.parametrize("how", ["put", "save"])
@pytest.mark.parametrize(
    "axes", [PageAxes.CROSS_LAYER_HND, PageAxes.SEPARATE_NHD, PageAxes.BLOCK_FIRST_HND]
)
def test_bytes_arrive_in_another_layout(controller, reader, how, axes):
    cache = paged(axes, READER, LAYOUT)
    targets = [SKIP_BLOCK] * (PER_CHUNK + 1) + TARGETS[PER_CHUNK + 1 : -2]
    expected = expected_content(cache.content, targets)
    with PagedHolderProcess(controller.address, "holder", HOLDER, how):
        loaded = register(reader, cache).fetch(FetchRequest(KEYS, budget_s=20), targets)
    assert (loaded.num_chunks, loaded.num_skipped) == (NUM_CHUNKS, 1)
    assert loaded.reason is ShortReason.COMPLETE
    (source,) = loaded.sources
    assert (source.instance, source.num_chunks) == ("holder", NUM_CHUNKS - 1)
    assert np.array_equal(cache.content, expected)
    assert reader.counters()["slots_quarantined"] == 0


def test_layers_arrive_in_order_and_can_be_used_at_once(controller, reader):
    cache = paged(PageAxes.CROSS_LAYER_HND, READER, LAYOUT)
    registered = register(reader, cache)
    scatter = registered._copies.scatter
    may_go_on = threading.Semaphore(0)

    def slowly(part, rows, slots, after) -> None:
        assert may_go_on.acquire(timeout=30)
        scatter(part, rows, slots, after)

    registered._copies.scatter = slowly  # type: ignore[method-assign]
    before, after = cache.content.copy(), expected_content(cache.content, TARGETS)
    with PagedHolderProcess(controller.address, "holder", HOLDER, "put"):
        loading = registered.submit_fetch(
            FetchRequest(KEYS, budget_s=20), TARGETS, LoadOrder.LAYERS
        )
        assert loading.wait_fetched(20) == NUM_CHUNKS
    for layer in range(LAYOUT.num_layers):
        assert not loading.wait_layer(layer, 0)
        may_go_on.release()
        assert loading.wait_layer(layer, 20)
        assert np.array_equal(cache.content[: layer + 1], after[: layer + 1])
        assert np.array_equal(cache.content[layer + 1 :], before[layer + 1 :])
    report = loading.wait(20)
    assert report is not None
    assert report.reason is ShortReason.COMPLETE


def test_a_reader_of_blocks_is_a_holder_of_chunks(controller, reader):
    with PagedHolderProcess(controller.address, "holder", HOLDER, "put"):
        cache = register(reader, paged(PageAxes.CROSS_LAYER_HND, 0, LAYOUT))
        assert cache.fetch(FetchRequest(KEYS, budget_s=20), TARGETS).num_chunks == NUM_CHUNKS
        assert reader.wait_advertised(20)
    third_cache = paged(PageAxes.KV_FIRST_HND, READER, LAYOUT)
    expected = expected_content(third_cache.content, TARGETS)
    with start_backend(controller.address, "third") as third:
        loading = register(third, third_cache).submit_fetch(
            FetchRequest(KEYS, budget_s=20), TARGETS
        )
        report = loading.wait(30)
    assert report is not None
    assert [source.instance for source in report.sources] == ["reader"]
    assert np.array_equal(third_cache.content, expected)


def test_a_backend_that_closes_ends_its_loads(controller):
    cache = paged(PageAxes.CROSS_LAYER_HND, READER, LAYOUT)
    with start_backend(controller.address, "reader") as backend:
        assert backend.wait_advertised(20)
        registered = register(backend, cache)
        registered.put(KEYS[:2], TARGETS[: 2 * PER_CHUNK])
        loading = registered.submit_fetch(FetchRequest(KEYS, budget_s=30), SOURCES)
    report = loading.wait(0)
    assert report is not None
    assert report.num_chunks == 2
