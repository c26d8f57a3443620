"""Gather and scatter: every implementation does what the logical layout says, and nothing else."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from p2p.errors import PluginMissingError
from p2p.kernels import (
    ChunkSpec,
    HeadRange,
    Implementation,
    PageAxes,
    PagedCache,
    PageMemory,
    open_copier,
)
from p2p_kernels.registry import ENTRIES
from p2p_kernels.torch_kernels import TorchCopier
from tests.unit.kernels.caches import Case, build, cases, expected_chunk, expected_pages, open_cache

SIZE = {"L": 2, "K": 2, "B": 5, "P": 4, "H": 2, "D": 8}
IMPLEMENTATIONS = [
    name
    for name, entry in ENTRIES.items()
    if (not entry.devices or "cpu" in entry.devices) and not entry.starts_slowly
]
COMPILED = [
    Case("KBPHD", "bfloat16", True, SIZE, {}, 2, 2, ((3, 1), (4, 0)), None, 2, 1),
    Case("KBHPD", "bfloat16", True, SIZE, {}, 2, 2, ((4, 0),), HeadRange(1, 2, 1), 3, 2),
    Case("KBX", "float32", True, SIZE, {}, 1, 2, ((2, 4),), None, 1, 3),
    Case("BPHD", "float16", True, SIZE, {"D": 3}, 2, 2, ((2, 4),), None, 2, 4),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method:DeprecationWarning")
@pytest.mark.parametrize("case", COMPILED, ids=lambda case: case.axes)
def test_compiled(case):
    test_gather.hypothesis.inner_test(Implementation.COMPILE, case)
    test_scatter.hypothesis.inner_test(Implementation.COMPILE, case)


def test_without_a_compiler_there_is_no_compiled_copier(monkeypatch):
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("/no/compiler",))
    memory = PageMemory.of_tensors(torch.zeros((2, 4, 2, 3, 8)), PageAxes.KV_FIRST_NHD)
    with pytest.raises(PluginMissingError, match=r"no C\+\+ compiler"):
        open_copier(memory, Implementation.COMPILE)


@pytest.fixture(autouse=True, scope="module")
def _one_torch_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _slots(cache, count, seed):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, cache.chunk.chunk_bytes, dtype=np.uint8) for _ in range(count)]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@given(case=cases(for_scatter=False))
@settings(max_examples=150, deadline=None)
def test_gather(implementation, case):
    engine = build(case)
    cache = open_cache(case, engine, implementation)
    slots = _slots(cache, len(case.block_ids), case.seed)
    pages = engine.pages(case.axes)
    expected = [
        expected_chunk(case, pages, ids, slot)
        for ids, slot in zip(case.block_ids, slots, strict=True)
    ]
    cache.gather(case.block_ids, slots, case.heads)
    for slot, wanted in zip(slots, expected, strict=True):
        np.testing.assert_array_equal(slot, wanted)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@given(case=cases(for_scatter=True))
@settings(max_examples=150, deadline=None)
def test_scatter(implementation, case):
    engine, untouched = build(case), build(case)
    cache = open_cache(case, engine, implementation)
    slots = _slots(cache, len(case.block_ids), case.seed)
    expected = expected_pages(case, engine.pages(case.axes), slots)
    cache.scatter(slots, case.block_ids, case.heads)
    np.testing.assert_array_equal(engine.pages(case.axes), expected)
    for now, before, inside in zip(engine.bases, untouched.bases, engine.inside, strict=True):
        np.testing.assert_array_equal(now[~inside], before[~inside])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@given(case=cases(for_scatter=True))
@settings(max_examples=50, deadline=None)
def test_what_was_scattered_is_gathered(implementation, case):
    engine = build(case)
    cache = open_cache(case, engine, implementation)
    whole = [ids for ids in case.block_ids if min(ids) >= 0]
    slots = _slots(cache, len(whole), case.seed)
    again = [slot.copy() for slot in slots]
    cache.scatter(slots, whole, case.heads)
    for slot in again:
        rows = cache.chunk.stride_head
        heads = case.heads
        by_head = slot.reshape(cache.chunk.num_planes, -1, rows)
        if heads is None:
            by_head[:] = 0
        else:
            by_head[:, heads.chunk_head : heads.chunk_head + heads.count] = 0
    cache.gather(whole, again, case.heads)
    for slot, back in zip(slots, again, strict=True):
        np.testing.assert_array_equal(back, slot)


@given(gathered=cases(for_scatter=False), scattered=cases(for_scatter=True))
@settings(max_examples=100, deadline=None)
def test_slots_away_from_the_device_go_through_staging(gathered, scattered):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TorchCopier, "_on_device", lambda _, slot: torch.full_like(slot, 77))
        test_gather.hypothesis.inner_test(Implementation.TORCH, gathered)
        test_scatter.hypothesis.inner_test(Implementation.TORCH, scattered)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_chunks_may_be_padded(implementation):
    tensor = torch.arange(2 * 4 * 2 * 3 * 8, dtype=torch.int16).view(2, 4, 2, 3, 8)
    dense = _small_cache(tensor, implementation)
    wanted, slot = np.zeros(dense.chunk.chunk_bytes, np.uint8), np.zeros(2 * 3 * 80, np.uint8)
    dense.gather([3, 0], [wanted])
    padded = ChunkSpec(2, 3, 4, 8, 2, stride_plane=240, stride_head=80, stride_token=16)
    memory = PageMemory.of_tensors(tensor, PageAxes.KV_FIRST_NHD)
    PagedCache(memory, padded, implementation).gather([3, 0], [slot])
    assert np.array_equal(slot.reshape(6, 80)[:, :64], wanted.reshape(6, 64))
    assert not slot.reshape(6, 80)[:, 64:].any()


def test_padding_of_chunks_away_from_the_device_stays(monkeypatch):
    monkeypatch.setattr(TorchCopier, "_on_device", lambda _, slot: torch.full_like(slot, 77))
    test_chunks_may_be_padded(Implementation.TORCH)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_slots_may_be_unaligned_and_of_torch(implementation):
    tensor = torch.arange(2 * 4 * 2 * 3 * 8, dtype=torch.int16).view(2, 4, 2, 3, 8)
    cache = _small_cache(tensor, implementation)
    arena = np.zeros(2 * cache.chunk.chunk_bytes + 1, np.uint8)
    odd = arena[1 : 1 + cache.chunk.chunk_bytes]
    of_torch = torch.zeros(cache.chunk.chunk_bytes, dtype=torch.uint8)
    cache.gather([[3, 1], [3, 1]], [odd, of_torch])
    assert np.array_equal(odd, of_torch.numpy())
    expected = tensor[:, [3, 1]].permute(0, 3, 1, 2, 4).contiguous().view(torch.uint8)
    assert odd.tobytes() == expected.numpy().tobytes()
    target = torch.zeros_like(tensor)
    read_only = odd.copy()
    read_only.flags.writeable = False
    _small_cache(target, implementation).scatter([read_only], [3, 1])
    assert torch.equal(target[:, [3, 1]], tensor[:, [3, 1]])
    assert not target[:, [0, 2]].any()


@pytest.mark.parametrize("implementation", [*IMPLEMENTATIONS, Implementation.AUTO])
def test_threads_share_a_cache(implementation):
    tensor = torch.arange(2 * 4 * 2 * 3 * 8, dtype=torch.int16).view(2, 4, 2, 3, 8)
    cache = _small_cache(tensor, implementation)
    head_ranges = [None, HeadRange(1, 0, 2)]

    def gathered(heads):
        slot = np.zeros(cache.chunk.chunk_bytes, np.uint8)
        cache.gather([3, 0], [slot], heads)
        return slot.tobytes()

    expected = [gathered(heads) for heads in head_ranges]
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(gathered, head_ranges * 50)) == expected * 50


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("on_device", [True, False])
def test_on_a_gpu(on_device):
    tensor = torch.arange(2 * 4 * 2 * 3 * 8, dtype=torch.int16).view(2, 4, 2, 3, 8)
    host = _small_cache(tensor, Implementation.REFERENCE)
    device = _small_cache(tensor.cuda(), Implementation.AUTO)
    assert device.implementation is not Implementation.NUMPY
    expected = np.zeros(host.chunk.chunk_bytes, np.uint8)
    host.gather([2, 0], [expected])
    slot = torch.zeros(host.chunk.chunk_bytes, dtype=torch.uint8)
    slot = slot.cuda() if on_device else slot
    device.gather([2, 0], [slot])
    assert np.array_equal(slot.cpu().numpy(), expected)
    host.scatter([expected], [1, 3])
    moved = tensor.cuda()
    _small_cache(moved, Implementation.TORCH).scatter([slot], [1, 3])
    assert torch.equal(moved.cpu(), tensor)


def _small_cache(tensor, implementation):
    memory = PageMemory.of_tensors(tensor, PageAxes.KV_FIRST_NHD)
    return PagedCache(memory, ChunkSpec.canonical(2, 3, 4, 8, 2), implementation)
