"""Pools in the memory of a device, with the host in its place, over real links and processes.

The digests there are made by the C++ source for GPUs, compiled for the host: what an instance with
such a pool advertises is checked by one that digests with xxhash, and the other way round.
"""

import msgspec
import numpy as np
import pytest
import torch

from p2p.backend import (
    BackendConfig,
    CacheDescription,
    FetchRequest,
    P2PBackend,
    ShortReason,
)
from p2p.backend.assembly import pool_of
from p2p.backend.device_pool import DevicePool
from p2p.kernels import DeviceName, PageAxes
from p2p_kernels.cuda_kernels import CudaDigester
from tests.e2e.controller_process import ControllerProcess
from tests.e2e.paged_holder_process import (
    KEYS,
    LAYOUT,
    NAMESPACE,
    NUM_CHUNKS,
    holder_cache,
    start_backend,
)
from tests.e2e.test_paged import HOLDER, READER, SOURCES, TARGETS, expected_content, register
from tests.unit.backend.engine_caches import paged
from tests.unit.kernels.cuda_on_host import COMPILER, HostLauncher, build

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler"),
]
CPU = DeviceName.parse("cpu")


@pytest.fixture(scope="module")
def digester(tmp_path_factory):
    return CudaDigester(torch.device("cpu"), HostLauncher(build(tmp_path_factory.mktemp("cu"))))


@pytest.fixture
def start(monkeypatch, digester):
    """Starts an instance with its pool on the host or on the device that the host stands for."""

    def started(controller, name, place):
        def on_device(config, layout):
            return DevicePool(config.pool_bytes, layout, CPU, digester)

        made = on_device if place == "device" else pool_of
        monkeypatch.setattr("p2p.backend.backend.pool_of", made)
        backend = start_backend(controller.address, name)
        assert isinstance(backend._pool, DevicePool) is (place == "device")
        return backend

    return started


@pytest.mark.parametrize(
    ("holds", "reads"), [("device", "host"), ("host", "device"), ("device", "device")]
)
def test_chunks_go_between_pools_of_both_kinds(start, holds, reads):
    cache, source = paged(PageAxes.CROSS_LAYER_HND, READER, LAYOUT), holder_cache(HOLDER)
    expected = expected_content(cache.content, TARGETS)
    with (
        ControllerProcess() as controller,
        start(controller, "holder", holds) as holder,
        start(controller, "reader", reads) as reader,
    ):
        register(holder, source).put(KEYS, SOURCES)
        assert holder.wait_advertised(20)
        assert reader.wait_advertised(20)
        loaded = register(reader, cache).fetch(FetchRequest(KEYS, budget_s=20), TARGETS)
        assert (loaded.num_chunks, loaded.reason) == (NUM_CHUNKS, ShortReason.COMPLETE)
        assert [part.instance for part in loaded.sources] == ["holder"]
        assert np.array_equal(cache.content, expected)
        with holder.fetch(KEYS) as here, reader.fetch(KEYS) as there:
            for ours, theirs in zip(here.chunks, there.chunks, strict=True):
                assert np.array_equal(ours, theirs)


def test_a_damaged_chunk_on_a_device_is_a_miss(start):
    cache = paged(PageAxes.CROSS_LAYER_HND, READER, LAYOUT)
    with (
        ControllerProcess() as controller,
        start(controller, "holder", "device") as holder,
        start(controller, "reader", "host") as reader,
    ):
        register(holder, holder_cache(HOLDER)).put(KEYS, SOURCES)
        assert holder.wait_advertised(20)
        assert reader.wait_advertised(20)
        entry = holder._core.index.get(KEYS[3])
        assert entry is not None
        holder._pool.view(entry.slot)[1000] ^= 1
        loaded = register(reader, cache).fetch(FetchRequest(KEYS, budget_s=5), TARGETS)
        assert loaded.num_chunks == 3
        assert loaded.reason is ShortReason.DIGEST_MISMATCH


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_chunks_go_from_the_memory_of_a_gpu_to_that_of_a_gpu():
    """Untested so far: no GPU was at hand."""
    cache, source = paged(PageAxes.CROSS_LAYER_HND, READER, LAYOUT), holder_cache(HOLDER)
    expected = expected_content(cache.content, TARGETS)
    whole = cache.tensors
    assert isinstance(whole, np.ndarray)
    pages = torch.from_numpy(whole).to("cuda:0")
    held = [torch.from_numpy(layer).to("cuda:0") for layer in source.tensors]
    config = BackendConfig(
        namespace=NAMESPACE,
        pool_bytes=2 * NUM_CHUNKS * LAYOUT.chunk_bytes,
        device="cuda:0",
        pool_memory="device",
    )
    with ControllerProcess() as controller:
        config = msgspec.structs.replace(config, controller=controller.address)
        with (
            P2PBackend.start(msgspec.structs.replace(config, instance="a"), LAYOUT) as holder,
            P2PBackend.start(msgspec.structs.replace(config, instance="b"), LAYOUT) as reader,
        ):
            holder.register_cache(CacheDescription(held, source.axes)).put(KEYS, SOURCES)
            assert holder.wait_advertised(20)
            assert reader.wait_advertised(20)
            into = reader.register_cache(CacheDescription(pages, cache.axes))
            assert into.fetch(FetchRequest(KEYS, budget_s=20), TARGETS).num_chunks == NUM_CHUNKS
    whole[...] = pages.cpu().numpy()
    assert np.array_equal(cache.content, expected)
