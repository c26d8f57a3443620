"""Copies between paged caches and slots: whole, by layers, by heads, and through a ring."""

from contextlib import nullcontext

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.backend.blocks import BlockRows
from p2p.backend.cache_copies import CacheCopies, CacheDescription
from p2p.backend.device_ring import DeviceRing, usual_size
from p2p.backend.pool import SlotBytes
from p2p.channel.staging import RingSize
from p2p.errors import ArgumentError, DeviceError
from p2p.kernels import SKIP_BLOCK, DeviceName, HeadRange, Implementation, PageAxes
from p2p.layout import ByteOrder
from tests.unit.backend.engine_caches import LAYOUT, NUM_BLOCKS, Paged, paged

CPU = DeviceName.parse("cpu")
AXES = [axes for axes in PageAxes if "H" in axes]
PER_CHUNK = LAYOUT.chunk_tokens // LAYOUT.block_tokens


def open_copies(cache: Paged, implementation=Implementation.NUMPY) -> CacheCopies:
    return CacheCopies(CacheDescription(cache.tensors, cache.axes, implementation), LAYOUT, CPU)


def through_a_ring(copies: CacheCopies, per_buffer: int = 2) -> CacheCopies:
    """The host stands in for a device: same code, streams that do nothing."""
    size = RingSize(per_buffer * copies.whole.num_bytes, 3)
    copies._rings = (DeviceRing(CPU, size), DeviceRing(CPU, size))
    return copies


def slots_of(num_chunks: int) -> list[SlotBytes]:
    return list(np.zeros((num_chunks, LAYOUT.chunk_bytes), np.uint8))


def rows_of(seed: int, num_chunks: int) -> BlockRows:
    ids = np.random.default_rng(seed).permutation(NUM_BLOCKS)[: num_chunks * PER_CHUNK]
    return ids.reshape(num_chunks, PER_CHUNK)


def expected_slots(cache: Paged, rows: BlockRows) -> SlotBytes:
    """[layer][plane][head][token][dim], worked out by indexing alone."""
    chunks = []
    for row in rows:
        picked = cache.content[:, :, row]  # L K N P H D
        chunk = picked.transpose(0, 1, 4, 2, 3, 5)
        chunks.append(np.ascontiguousarray(chunk).view(np.uint8).reshape(-1))
    return np.array(chunks)


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("ring", ["no ring", "a ring"])
def test_chunks_come_out_and_go_into_another_layout(axes, ring):
    holder, reader = paged(axes, 1), paged(PageAxes.CROSS_LAYER_HND, 0)
    out, into = open_copies(holder), open_copies(reader)
    if ring == "a ring":
        out, into = through_a_ring(out), through_a_ring(into)
    rows, targets, slots = rows_of(1, 7), rows_of(2, 7), slots_of(7)
    out.gather(out.whole, rows, slots, out.compute_event())
    assert np.array_equal(slots, expected_slots(holder, rows))
    for slot in slots:
        slot.flags.writeable = False
    into.scatter(into.whole, targets, slots, into.compute_event())
    wanted = np.zeros_like(reader.content)
    wanted[:, :, targets.ravel()] = holder.content[:, :, rows.ravel()]
    assert np.array_equal(reader.content, wanted)


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("ring", ["no ring", "a ring"])
def test_a_layer_alone_touches_nothing_else(axes, ring):
    holder, reader = paged(axes, 3), paged(axes, 0)
    out, into = open_copies(holder), open_copies(reader)
    if ring == "a ring":
        out, into = through_a_ring(out), through_a_ring(into)
    rows, slots = rows_of(4, 5), slots_of(5)
    skipped = rows.copy()
    skipped[4, 2:] = SKIP_BLOCK
    wanted = np.zeros_like(reader.content)
    for layer in (1, 0, 2):
        out.gather(out.layers[layer], rows, slots, out.compute_event())
        into.scatter(into.layers[layer], skipped, slots, into.compute_event())
        blocks = skipped[skipped != SKIP_BLOCK]
        wanted[layer, :, blocks] = holder.content[layer, :, blocks]
        assert np.array_equal(reader.content, wanted)
    assert np.array_equal(slots, expected_slots(holder, rows))


@settings(deadline=None, max_examples=30)
@given(
    num_chunks=st.integers(0, 10),
    per_buffer=st.integers(1, 4),
    seed=st.integers(0, 1 << 16),
)
def test_a_ring_copies_any_number_of_chunks(num_chunks, per_buffer, seed):
    holder = paged(PageAxes.KV_FIRST_NHD, 5)
    out = through_a_ring(open_copies(holder), per_buffer)
    rows, slots = rows_of(seed, num_chunks), slots_of(num_chunks)
    out.gather(out.whole, rows, slots, out.compute_event())
    expected = expected_slots(holder, rows)
    assert all(map(np.array_equal, slots, expected))
    assert len(expected) == num_chunks


def test_a_device_that_fails_is_a_typed_error_and_the_ring_goes_on():
    out = through_a_ring(open_copies(paged(PageAxes.KV_FIRST_NHD, 5)))
    rows, slots = rows_of(1, 2), slots_of(2)
    with pytest.raises(DeviceError, match=r"ArgumentError: block_ids = 99"):
        out.gather(out.whole, rows + 99, slots, out.compute_event())
    assert out._rings is not None
    assert isinstance(out._rings[0], DeviceRing)
    assert out._rings[0]._pump.num_copies == 0
    out.gather(out.whole, rows, slots, out.compute_event())
    assert all(slot.any() for slot in slots)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_a_cache_with_some_heads_takes_them_out_of_whole_chunks(first):
    holder = paged(PageAxes.KV_FIRST_NHD, 6)
    half = msgspec.structs.replace(LAYOUT, num_kv_heads=2)
    reader = paged(PageAxes.CROSS_LAYER_HND, 0, half)
    heads = HeadRange(page_head=0, chunk_head=first, count=2)
    into = CacheCopies(CacheDescription(reader.tensors, reader.axes, heads=heads), LAYOUT, CPU)
    assert not into.has_whole_chunks
    out, rows, slots = open_copies(holder), rows_of(1, 3), slots_of(3)
    out.gather(out.whole, rows, slots, out.compute_event())
    for part in into.layers:
        into.scatter(part, rows, slots, into.compute_event())
    wanted = np.zeros_like(reader.content)
    picked = holder.content[:, :, rows.ravel(), :, first : first + 2]
    wanted[:, :, rows.ravel()] = picked
    assert np.array_equal(reader.content, wanted)


def test_a_buffer_holds_a_chunk_at_least():
    assert usual_size(1000).slot_bytes == 8 << 20
    assert usual_size(9 << 20) == RingSize(9 << 20, 4)


def test_what_does_not_fit_is_named():
    cache = paged(PageAxes.KV_FIRST_NHD, 0)
    description = CacheDescription(cache.tensors, cache.axes)
    with pytest.raises(ArgumentError, match=r"^tensors\.device = 'cpu': backend\.device is cuda:0"):
        CacheCopies(description, LAYOUT, DeviceName.parse("cuda:0"))
    beyond = CacheDescription(cache.tensors, cache.axes, heads=HeadRange(0, 3, 2))
    with pytest.raises(ArgumentError, match=r"^heads = "):
        CacheCopies(beyond, LAYOUT, CPU)
    sliced = CacheDescription(cache.tensors, "KBX", heads=HeadRange(0, 0, 1))
    opaque = msgspec.structs.replace(LAYOUT, byte_order=ByteOrder.OPAQUE)
    with pytest.raises(ArgumentError, match="opaque chunks move whole"):
        CacheCopies(sliced, opaque, CPU)
    packed = paged(PageAxes.SEPARATE_HND, 0)
    too_many = CacheDescription(packed.tensors[:1], "BHX", heads=HeadRange(0, 0, 1))
    with pytest.raises(ArgumentError, match="heads of"):
        CacheCopies(too_many, opaque, CPU)
    wrong = msgspec.structs.replace(LAYOUT, num_layers=4)
    with pytest.raises(ArgumentError, match="num_planes"):
        CacheCopies(description, wrong, CPU)


class Order:
    """Streams that note what is asked of them; their work is done at once."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def stream(self, name: str):
        return NotedStream(name, self.steps)


class NotedStream:
    def __init__(self, name: str, steps: list[str]) -> None:
        self._name = name
        self._steps = steps

    def active(self):
        self._steps.append(f"work on {self._name}")
        return nullcontext()

    def record(self):
        return NotedEvent("behind", self._steps)

    def wait(self, event: object) -> None:
        self._steps.append(f"{self._name} waits")


class NotedEvent:
    def __init__(self, name: str, steps: list[str]) -> None:
        self._name = name
        self._steps = steps

    def is_done(self) -> bool:
        return True

    def wait_host(self) -> None:
        raise AssertionError("the host does not wait for a device")


@pytest.mark.parametrize(
    ("way", "steps"),
    [
        ("gather", ["kernels waits", "work on kernels", "work on bus"]),
        ("scatter", ["kernels waits", "work on bus", "work on kernels"]),
    ],
)
def test_kernels_wait_for_the_engine_and_the_host_for_nobody(way, steps):
    copies = through_a_ring(open_copies(paged(PageAxes.KV_FIRST_NHD, 5)))
    assert copies._rings is not None
    order = Order()
    for ring in copies._rings:
        assert isinstance(ring, DeviceRing)
        ring._kernels, ring._bus = order.stream("kernels"), order.stream("bus")
    event = NotedEvent("compute", order.steps)
    getattr(copies, way)(copies.whole, rows_of(1, 2), slots_of(2), event)
    assert order.steps == steps
