"""Opening caches: what engines bring, what a layout demands of it, and what is refused by name."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import p2p.kernels
from p2p.errors import ArgumentError, PluginMissingError
from p2p.kernels import (
    SKIP_BLOCK,
    ChunkSpec,
    Implementation,
    PageAxes,
    PagedCache,
    PageMemory,
    copy_plan,
    gather,
    open_copier,
    split_kv,
)
from p2p.layout import ByteOrder, Layout

LAYOUT = Layout(
    num_layers=2, num_kv_heads=6, head_dim=8, kv_dtype="bfloat16",
    block_tokens=4, chunk_tokens=8, tensor_parallel=2,
)  # fmt: skip


def _tensors(shape=(2, 5, 4, 3, 8), dtype=torch.bfloat16, count=2):
    return [torch.zeros(shape, dtype=dtype) for _ in range(count)]


def _cache(**change):
    return PagedCache.for_layout(_tensors(**change), PageAxes.KV_FIRST_NHD, LAYOUT)


def _slots(cache, count=1):
    return [np.zeros(cache.chunk.chunk_bytes, np.uint8) for _ in range(count)]


def test_a_cache_of_a_layout():
    cache = _cache()
    assert cache.chunk.chunk_bytes == LAYOUT.chunk_bytes
    assert cache.blocks_per_chunk == 2
    assert cache.implementation is Implementation.NUMPY
    assert cache.page.num_blocks == 5


def test_latent_and_opaque_caches_of_a_layout():
    latent = Layout(2, 1, 8, "float16", 4, 8, num_planes=1, tensor_parallel=4)
    tensors = _tensors((5, 4, 8), torch.float16)
    assert PagedCache.for_layout(tensors, PageAxes.MLA, latent).chunk.num_planes == 2
    opaque = Layout(
        2, 6, 8, "bfloat16", 4, 8, tensor_parallel=2, byte_order=ByteOrder.OPAQUE, isa="avx512"
    )
    packed = _tensors((2, 5, 4 * 3 * 8 * 2), torch.uint8)
    assert PagedCache.for_layout(packed, PageAxes.OPAQUE_KV_FIRST, opaque).blocks_per_chunk == 2
    with pytest.raises(ArgumentError, match=r"^chunk_bytes = 256: the layout makes that 1536"):
        PagedCache.for_layout(_tensors((2, 5, 32), torch.uint8), "KBX", opaque)
    with pytest.raises(ArgumentError, match=r"^axes = '4 tokens per block'"):
        PagedCache.for_layout(_tensors(), PageAxes.KV_FIRST_NHD, opaque)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 1}, r"^num_planes = 2: the layout makes that 4 per rank"),
        ({"shape": (2, 5, 4, 6, 8)}, r"^num_kv_heads = 6: .* 3 per rank"),
        ({"shape": (2, 5, 4, 3, 9)}, r"^head_dim = 9"),
        ({"shape": (2, 5, 2, 3, 8)}, r"^block_tokens = 2"),
        ({"dtype": torch.float16}, r"^dtype = 'float16': the layout's kv_dtype is bfloat16"),
        ({"dtype": torch.int16}, r"^dtype = 'int16'"),
    ],
)
def test_caches_that_a_layout_does_not_mean(change, message):
    with pytest.raises(ArgumentError, match=message):
        _cache(**change)


def test_raw_bits_stand_for_a_dtype():
    raw = [np.zeros((2, 5, 4, 3, 8), np.uint16) for _ in range(2)]
    PagedCache.for_layout(raw, PageAxes.KV_FIRST_NHD, LAYOUT)


ONE, TWO = np.zeros((2, 3)), np.zeros((2, 3))


def _lying_over_each_other():
    """K begins in the middle of V's first block."""
    return np.lib.stride_tricks.as_strided(np.zeros(16, "f4"), (2, 3, 4), (8, 16, 4))


@pytest.mark.parametrize(
    ("tensors", "axes", "message"),
    [
        ([], "BPHD", r"^tensors = \[\]: at least one"),
        ("cache", "BPHD", r"^tensors = 'str': tensors of numpy or torch"),
        (np.zeros((2, 3)), "BPHD", r"^tensors\[0\].shape = \(2, 3\): axes BPHD do not fit"),
        (np.zeros((2, 3)), "BX ", r"^axes = 'BX ': each axis is one of LKBPHD"),
        (np.zeros((2, 3)), "BB", r"^axes = 'BB': .* at most once, and BPD are always there"),
        (np.zeros((2, 3)), "PX", r"^axes = 'PX': each axis is one of LKB"),
        (np.zeros((2, 3, 4)).T, "BPD", r"^tensors\[0\].strides = .* D of BPD has its elements"),
        (np.zeros((2, 3, 4))[:, :, :2], "BX", r"^tensors\[0\].strides = .* X of BX are one span"),
        (np.zeros((2, 3, 4))[::-1], "BX", r"^tensors = .*: negative strides"),
        (np.zeros((0, 3, 4)), "BPD", r"^tensors = \(0, 3, 4\): a cache has elements"),
        ([np.zeros((2, 3)), np.zeros((2, 4))], "BX", r"^tensors\[1\].shape = \(2, 4\)"),
        (
            [np.zeros((2, 3)), np.zeros((2, 3), "f4")],
            "BX",
            r"^tensors\[1\].dtype = 'float32': .*float64",
        ),
        (np.zeros((2, 3), object), "BX", r"^tensors = 'object': a cache has numbers"),
        (torch.zeros((2, 3)).to_sparse(), "BX", r"^tensors = 'torch.sparse_coo': a cache is"),
        (torch.zeros((1, 3, 4)).expand(2, 3, 4), "KBX", r"^tensors\[0\].strides = \(0, "),
        (_lying_over_each_other(), "KBX", r"^tensors\[0\].strides = \(8, 16, 4\): planes of"),
        ([ONE, ONE], "BX", r"^tensors\[1\] = 'address .*: the same memory as tensors\[0\]"),
        ([(ONE, TWO), (TWO, ONE)], "BX", r"^tensors\[2\] = .* as tensors\[1\]"),
    ],
)
def test_tensors_that_are_no_pages(tensors, axes, message):
    with pytest.raises(ArgumentError, match=message):
        PageMemory.of_tensors(tensors, axes)


def test_keys_and_values_apart_are_the_planes_in_order():
    keys, values = _tensors((5, 4, 3, 8)), _tensors((5, 4, 3, 8))
    in_a_row = PageMemory.of_tensors(split_kv(keys, values), PageAxes.SEPARATE_NHD)
    pairs = PageMemory.of_tensors(list(zip(keys, values, strict=True)), PageAxes.SEPARATE_NHD)
    wanted = [t.data_ptr() for pair in zip(keys, values, strict=True) for t in pair]
    assert in_a_row.spec == pairs.spec
    assert list(in_a_row.spec.planes) == wanted
    with pytest.raises(ArgumentError, match=r"^values = 1: there are 2 tensors of K"):
        split_kv(keys, values[:1])


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ([], r"^slots = '0 slots': the block ids are those of 1 chunks"),
        ([np.zeros(8, np.uint8)], r"^slots\[0\] = \(8,\): a chunk has 1536 bytes"),
        ([np.zeros(1536, np.int8)], r"^slots\[0\] = 'int8 \(1536,\)': contiguous uint8"),
        ([np.zeros(3072, np.uint8)[::2]], r"^slots\[0\] = .*contiguous"),
        ([np.zeros((1, 1536), np.uint8)], r"^slots\[0\] = \(1, 1536\)"),
        ([torch.zeros(1536)], r"^slots\[0\] = 'torch.float32 \(1536,\)': contiguous uint8"),
        ([bytes(1536)], r"^slots\[0\] = 'bytes': an array or a torch tensor of uint8"),
    ],
)
def test_slots_that_do_not_fit(slots, message):
    cache = _cache()
    with pytest.raises(ArgumentError, match=message):
        cache.gather([0, 1], slots)
    with pytest.raises(ArgumentError, match=message):
        cache.scatter(slots, [0, 1])


def test_what_only_one_direction_refuses():
    cache = _cache()
    slots = _slots(cache)
    cache.scatter(slots, [SKIP_BLOCK, 1])
    with pytest.raises(ArgumentError, match=r"^block_ids = -1: a chunk has all of its blocks"):
        cache.gather([SKIP_BLOCK, 1], slots)
    cache.gather([1, 1], slots)
    with pytest.raises(ArgumentError, match=r"^block_ids = 1: scatter writes a block once"):
        cache.scatter(slots, [1, 1])
    slots[0].flags.writeable = False
    cache.scatter(slots, [0, 1])
    with pytest.raises(ArgumentError, match=r"^slots\[0\] = 'read-only array'"):
        cache.gather([0, 1], slots)


def test_a_read_only_cache_is_not_written():
    engine = np.zeros((2, 2, 5, 4, 3, 8), np.uint16)
    engine.flags.writeable = False
    cache = PagedCache.for_layout(list(engine), PageAxes.KV_FIRST_NHD, LAYOUT)
    cache.gather([0, 1], _slots(cache))
    with pytest.raises(ArgumentError, match=r"^tensors = 'read-only array'"):
        cache.scatter(_slots(cache), [0, 1])


def test_a_plan_is_for_its_cache():
    first, second = _cache(), _cache()
    copier = open_copier(PageMemory.of_tensors(_tensors(), PageAxes.KV_FIRST_NHD))
    made = first.plan([0, 1])
    with pytest.raises(ArgumentError, match=r"^plan = .*made for another cache"):
        gather(made, _slots(second), copier)
    fitting = copy_plan(copier.memory.spec, second.chunk, [0, 1])
    gather(fitting, _slots(second), copier)


def test_a_cache_keeps_its_tensors_alive():
    engine = np.full((2, 5, 4, 3, 8), 7, np.uint16)
    cache = PagedCache(
        PageMemory.of_tensors(engine, PageAxes.KV_FIRST_NHD), ChunkSpec.canonical(2, 3, 8, 8, 2)
    )
    del engine
    slots = _slots(cache)
    cache.gather([0, 1], slots)
    assert (slots[0].view(np.uint16) == 7).all()


@pytest.mark.parametrize("implementation", [Implementation.REFERENCE, Implementation.NUMPY])
def test_host_implementations_refuse_devices(implementation):
    memory = PageMemory.of_tensors(torch.zeros((5, 4, 8), device="meta"), PageAxes.MLA)
    with pytest.raises(ArgumentError, match=r"^device = 'meta': \w+ is for caches on cpu"):
        open_copier(memory, implementation)


def test_without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    memory = PageMemory.of_tensors(np.zeros((5, 4, 8)), PageAxes.MLA)
    with pytest.raises(PluginMissingError, match="torch is not installed"):
        open_copier(memory, Implementation.TORCH)


@pytest.mark.slow
def test_importing_loads_no_torch():
    code = "import sys, p2p.kernels; sys.exit('torch' in sys.modules)"
    paths = {"PYTHONPATH": ":".join(sys.path), "PATH": ""}
    assert subprocess.run([sys.executable, "-c", code], env=paths, check=False).returncode == 0


def test_the_facade_has_all_names():
    assert all(hasattr(p2p.kernels, name) for name in p2p.kernels.__all__)
