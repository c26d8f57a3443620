"""A pool on a device, with the host in its place: same code, slots that are tensors."""

from contextlib import contextmanager

import msgspec
import numpy as np
import pytest
import torch

from p2p.backend.assembly import pool_of
from p2p.backend.cache_copies import CacheCopies, CacheDescription
from p2p.backend.device_copier import DeviceCopier
from p2p.backend.device_pool import DevicePool
from p2p.backend.engine_device import pin_pool
from p2p.backend.pool import Pool
from p2p.backend.results import FetchRequest
from p2p.backend.settings import BackendConfig, check_layout, pool_place
from p2p.backend.shared_pool import SharedPool
from p2p.backend.sources import ArraySource
from p2p.errors import ArgumentError, ClosedError, ConfigError, DeviceError, MemoryUnavailableError
from p2p.kernels import DeviceName, PageAxes
from p2p.keys import ChunkKey, Namespace
from p2p.layout import ByteOrder
from p2p.regions import MemoryKind, Region, Segment
from tests.unit.backend.engine_caches import LAYOUT, NUM_BLOCKS, paged
from tests.unit.backend.host_as_device import CPU, HostDigester, host_as_device
from tests.unit.backend.test_cache_copies import expected_slots, rows_of
from tests.unit.backend.test_engine_cache import BLOCKS, KEYS, TARGETS, OneInstance, wanted

GPU = DeviceName.parse("cuda:1")
NAMESPACE = Namespace("m", "0" * 32, "float16")


def config(**changes):
    return BackendConfig(namespace=NAMESPACE, **changes)


class OneInstanceOnADevice(OneInstance):
    def make_pool(self, pool_bytes, layout):
        return host_as_device(pool_bytes, layout)


@pytest.fixture
def one():
    instance = OneInstanceOnADevice()
    yield instance
    instance.close()
    assert instance.num_pinned == 0


def test_a_digest_is_that_of_a_host_with_the_same_bytes():
    ours, host = host_as_device(1 << 20, LAYOUT), Pool(1 << 20, LAYOUT)
    content = np.random.default_rng(1).integers(0, 256, LAYOUT.chunk_bytes, np.uint8)
    for slot, key in ((0, KEYS[0]), (ours.num_slots - 1, KEYS[1])):
        ours.view(slot).copy_(torch.from_numpy(content))
        host.view(slot)[:] = content
        assert ours.digest(key, slot) == host.digest(key, slot)
        assert ours.digest(ChunkKey(b"other"), slot) != ours.digest(key, slot)
    assert ours.region.block_bytes == host.region.block_bytes == LAYOUT.chunk_bytes
    assert (ours.num_slots, ours.slot_bytes) == (host.num_slots, host.slot_bytes)


def test_chunks_go_from_blocks_into_slots_and_into_other_blocks(one):
    holder, reader = paged(PageAxes.KV_FIRST_NHD, 1), paged(PageAxes.CROSS_LAYER_HND, 2)
    assert one.register(holder).put(KEYS, BLOCKS).num_stored == 4
    expected = wanted(holder, BLOCKS, TARGETS, reader)
    assert one.register(reader).fetch(FetchRequest(KEYS), TARGETS).num_chunks == 4
    assert np.array_equal(reader.content, expected)
    assert one.pool._digester.num_calls == 4


def test_layers_go_into_slots_too(one):
    holder, reader = paged(PageAxes.SEPARATE_HND, 1), paged(PageAxes.KV_FIRST_NHD, 0)
    with one.register(holder).save(KEYS, BLOCKS) as saving:
        for layer in range(LAYOUT.num_layers):
            saving.save_layer(layer)
        assert saving.commit().num_stored == 4
    expected = wanted(holder, BLOCKS, TARGETS, reader)
    assert one.register(reader).fetch(FetchRequest(KEYS), TARGETS).num_chunks == 4
    assert np.array_equal(reader.content, expected)


def test_arrays_of_the_host_are_stored_and_come_out_as_copies(one):
    chunks = np.random.default_rng(2).integers(0, 256, (4, LAYOUT.chunk_bytes), np.uint8)
    chunks.flags.writeable = False
    one.intake.put(KEYS, ArraySource(chunks, LAYOUT), "")
    with one.result_of(one.take(KEYS)) as result:
        assert all(isinstance(slot, torch.Tensor) for slot in result.memory)
        assert result.chunks is result.chunks, "copied once"
        for found, expected in zip(result.chunks, chunks, strict=True):
            assert np.array_equal(found, expected)
            with pytest.raises(ValueError, match="read-only"):
                found[0] = 1
    with pytest.raises(ClosedError):
        _ = result.chunks


class Order:
    """A stream and an event that note what is asked of them."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    @contextmanager
    def active(self):
        self.steps.append("on the stream")
        yield
        self.steps.append("off it")

    def record(self):
        self.steps.append("record")
        return self

    def wait(self, event: object) -> None:
        self.steps.append(f"waits for {event}")

    def wait_host(self) -> None:
        self.steps.append("the host waits")


WHOLE = ["waits for compute", "on the stream", "off it", "record", "the host waits"]


@pytest.mark.parametrize("way", ["gather", "scatter"])
def test_on_one_device_kernels_copy_behind_the_engine(way):
    cache = paged(PageAxes.KV_FIRST_NHD, 1)
    copies = CacheCopies(CacheDescription(cache.tensors, cache.axes), LAYOUT, CPU)
    copiers = DeviceCopier(CPU), DeviceCopier(CPU)
    copies._rings = copiers
    order, rows = Order(), rows_of(1, 2)
    for copier in copiers:
        copier._stream = order
    slots = [torch.zeros(LAYOUT.chunk_bytes, dtype=torch.uint8) for _ in range(2)]
    getattr(copies, way)(copies.whole, rows, slots, "compute")
    assert order.steps == WHOLE
    if way == "gather":
        assert np.array_equal(torch.stack(slots).numpy(), expected_slots(cache, rows))
    else:
        assert not cache.content[:, :, rows].any()


def test_a_copy_that_fails_has_ended_when_it_is_told():
    cache = paged(PageAxes.KV_FIRST_NHD, 1)
    copies = CacheCopies(CacheDescription(cache.tensors, cache.axes), LAYOUT, CPU)
    copier, order = DeviceCopier(CPU), Order()
    copier._stream = order
    slots = [torch.zeros(LAYOUT.chunk_bytes, dtype=torch.uint8)]
    with pytest.raises(ArgumentError, match=f"block_ids = {NUM_BLOCKS}"):
        copier.gather(copies.whole, np.full((1, 4), NUM_BLOCKS), slots, "compute")  # type: ignore[arg-type]
    assert order.steps == ["waits for compute", "on the stream", "record", "the host waits"]

    def lost() -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    with pytest.raises(DeviceError, match="unspecified launch failure"):
        copier._run("compute", lost)  # type: ignore[arg-type]


def test_a_device_that_is_lost_while_it_digests_is_a_device_error():
    class Lost(HostDigester):
        def leaf_digests(self, slots, leaf_bytes):
            raise RuntimeError("CUDA error: unspecified launch failure")

    pool = host_as_device(1 << 20, LAYOUT, Lost())
    with pytest.raises(DeviceError, match="digest of slot 3: CUDA error"):
        pool.digest(KEYS[0], 3)


def test_settings_place_the_pool():
    assert pool_place(config()) == CPU
    assert pool_place(config(device="cuda:1")) == CPU
    on_device = config(device="cuda:1", pool_memory="device")
    on_device.check()
    assert pool_place(on_device) == GPU
    with pytest.raises((ConfigError, MemoryUnavailableError), match="device"):
        pool_of(on_device, LAYOUT)  # there is none, and nothing that digests there


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "needs a GPU; backend.device is cpu"),
        ({"device": "npu:1"}, "needs a GPU; backend.device is npu:1"),
        ({"device": "cuda:0", "channel": "shm"}, "the shm channel reads host memory"),
    ],
)
def test_a_pool_that_nobody_could_reach_is_refused(changes, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        config(pool_memory="device", **changes).check()
    assert caught.value.key == "backend.pool_memory"


def test_what_a_device_cannot_hold_is_refused():
    with pytest.raises(ConfigError, match=r"backend\.pool_bytes = 10: less than one chunk"):
        host_as_device(10, LAYOUT)
    tiny = msgspec.structs.replace(LAYOUT, num_layers=1, num_kv_heads=1, head_dim=4, num_planes=1)
    with pytest.raises(ConfigError, match=r"chunks of 128 bytes; devices take 241 and more"):
        host_as_device(1 << 20, tiny)
    two = msgspec.structs.replace(LAYOUT, tensor_parallel=2, byte_order=ByteOrder.OPAQUE)
    with pytest.raises(ConfigError, match=r"layout\.tensor_parallel = 2"):
        check_layout(config(device="cuda:0", pool_memory="device"), two)
    with pytest.raises(ConfigError, match="leaves are digested on GPUs"):
        DevicePool(1 << 20, LAYOUT, DeviceName.parse("npu"))


def test_nobody_pins_or_maps_the_memory_of_a_device(one):
    in_device = Region((Segment(0, 8, 8),), 4, MemoryKind.VRAM, 1)
    assert pin_pool(in_device, GPU) is None
    with pytest.raises(ConfigError, match=r"backend\.pool_memory = 'device'"):
        _ = SharedPool(one.pool, one.intake).file


def test_the_arena_is_cut_into_slots_of_tensors():
    pool = host_as_device(3 * LAYOUT.chunk_bytes, LAYOUT)
    first, last = pool.view(0), pool.view(2)
    assert last.data_ptr() - first.data_ptr() == 2 * LAYOUT.chunk_bytes
    assert pool.region.segments[0].base == first.data_ptr()
    with pytest.raises(ArgumentError, match="do not lie in an arena"):
        pool.view(3)
