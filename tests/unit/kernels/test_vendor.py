"""Vendors' operators: real schemas, declared here, with an implementation from the vendor's text.

That proves names, arguments and what we make of the documented behaviour, and nothing on hardware.
"""

import numpy as np
import pytest
import torch

from p2p.errors import ArgumentError, PluginMissingError
from p2p.kernels import (
    SKIP_BLOCK,
    ChunkSpec,
    Implementation,
    PageAxes,
    PageMemory,
    copy_plan,
    gather,
    open_copier,
    scatter,
)
from p2p_kernels.reference import ReferenceCopier
from p2p_kernels.vendor_kernels import VendorCopier
from p2p_kernels.vendor_operators import MluOperators, NpuOperators
from tests.unit.kernels.properties import check_engine_sizes, check_gather, check_scatter

# As libtorch_npu.so of torch-npu 2.14.0 has them.
NPU_GATHER = (
    "npu_gather_pa_kv_cache(Tensor key_cache, Tensor value_cache, Tensor block_tables, "
    "Tensor seq_lens, Tensor(a!) key, Tensor(b!) value, *, Tensor? seq_offset=None, "
    "bool is_seq_lens_cumsum=False) -> ()"
)
NPU_SCATTER = (
    "npu_scatter_pa_kv_cache(Tensor key, Tensor value, Tensor(a!) key_cache, "
    "Tensor(b!) value_cache, Tensor slot_mapping, *, Tensor? compress_lens=None, "
    "Tensor? compress_seq_offsets=None, Tensor? seq_lens=None, str? cache_mode='PA_NZ') -> ()"
)
# Arguments as torch_mlu_ops' Python wrapper passes them; what is written (!) is from its text.
MLU_SCHEMA = (
    "reshape_paged_cache(Tensor(a!) k, Tensor(b!)? v, Tensor(c!) k_cache, Tensor(d!)? v_cache, "
    "Tensor slot_mapping, bool direction) -> ()"
)
CALLS: list[str] = []


def npu_gather(key_cache, value_cache, block_tables, seq_lens, key, value, **options):
    """Every token of every sequence comes out in order, [token][head][dim]."""
    CALLS.append("npu_gather")
    assert not options, "the defaults are what is meant: no offset, lengths not summed up"
    _check_npu(key_cache, value_cache, key, value)
    assert block_tables.dtype == seq_lens.dtype == torch.int32
    place, block_size = 0, key_cache.shape[1]
    for table, length in zip(block_tables.tolist(), seq_lens.tolist(), strict=True):
        for token in range(length):
            block = table[token // block_size]
            key[place] = key_cache[block, token % block_size]
            value[place] = value_cache[block, token % block_size]
            place += 1
    assert place == key.shape[0]


def npu_scatter(key, value, key_cache, value_cache, slot_mapping, **options):
    """Each token goes to its slot of the cache, which is BPHD in mode Norm only."""
    CALLS.append("npu_scatter")
    assert options == {"cache_mode": "Norm"}
    _check_npu(key_cache, value_cache, key, value)
    assert slot_mapping.dtype == torch.int32
    assert slot_mapping.shape == key.shape[:1]
    for token, slot in enumerate(slot_mapping.tolist()):
        block, place = divmod(slot, key_cache.shape[1])
        key_cache[block, place] = key[token]
        value_cache[block, place] = value[token]


def _check_npu(*tensors):
    assert all(tensor.is_contiguous() for tensor in tensors)
    assert {tensor.dtype for tensor in tensors} < {torch.float16, torch.bfloat16, torch.int8}


def mlu_reshape(k, v, k_cache, v_cache, slot_mapping, direction):
    """[token][head][dim] to or from BHPD by slots; out of the cache if ``direction``."""
    CALLS.append("mlu_gather" if direction else "mlu_scatter")
    assert slot_mapping.dtype == torch.int32
    assert all(tensor.is_contiguous() for tensor in (k, v, k_cache, v_cache))
    for token, slot in enumerate(slot_mapping.tolist()):
        if slot < 0:
            continue
        block, place = divmod(slot, k_cache.shape[2])
        for tokens, cache in ((k, k_cache), (v, v_cache)):
            if direction:
                tokens[token] = cache[block, :, place]
            else:
                cache[block, :, place] = tokens[token]


@pytest.fixture(scope="module", autouse=True)
def _operators():
    npu, mlu = torch.library.Library("npu", "DEF"), torch.library.Library("torch_mlu_ops", "DEF")
    for schema in (NPU_GATHER, NPU_SCATTER):
        npu.define(schema)
    mlu.define(MLU_SCHEMA)
    npu.impl("npu_gather_pa_kv_cache", npu_gather, "CPU")
    npu.impl("npu_scatter_pa_kv_cache", npu_scatter, "CPU")
    mlu.impl("reshape_paged_cache", mlu_reshape, "CPU")
    yield
    npu._destroy()
    mlu._destroy()


@pytest.fixture(params=[NpuOperators, MluOperators])
def opened(request, _operators):
    CALLS.clear()
    return lambda memory: VendorCopier(memory, request.param())


def test_any_cache_is_gathered(opened):
    check_gather(opened, 100)


def test_any_cache_is_scattered(opened):
    check_scatter(opened, 100)


def test_sizes_of_engines(opened):
    check_engine_sizes(opened)


FITTING: dict[str, tuple[type[NpuOperators | MluOperators], PageAxes, tuple[int, ...]]] = {
    "npu": (NpuOperators, PageAxes.KV_FIRST_NHD, (2, 9, 4, 3, 8)),
    "mlu": (MluOperators, PageAxes.KV_FIRST_HND, (2, 9, 3, 4, 8)),
    "npu mla": (NpuOperators, PageAxes.MLA, (9, 4, 24)),
    "mlu mla": (MluOperators, PageAxes.MLA, (9, 4, 24)),
}


def _copy(memory, copier, slots):
    page = memory.spec
    chunk = ChunkSpec.canonical(
        len(page.planes), page.num_heads, 2 * page.block_tokens, page.head_dim, page.item_bytes
    )
    gather(copy_plan(page, chunk, [[7, 0], [3, 3]]), slots, copier)
    scatter(copy_plan(page, chunk, [[SKIP_BLOCK, 2], [1, 8]]), slots, copier)
    scatter(copy_plan(page, chunk, [SKIP_BLOCK, SKIP_BLOCK]), slots[:1], copier)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int8, torch.float8_e4m3fn])
@pytest.mark.parametrize("name", FITTING)
def test_a_fitting_cache_goes_to_the_operators(name, dtype):
    operators, axes, shape = FITTING[name]
    raw = np.random.default_rng(1).integers(0, 256, (3, *shape[:-1], shape[-1] * dtype.itemsize))
    layers = [torch.from_numpy(each).view(dtype) for each in raw.astype(np.uint8)]
    again = [layer.clone() for layer in layers]
    memory, other = (PageMemory.of_tensors(each, axes) for each in (layers, again))
    chunk_bytes = len(memory.spec.planes) * 2 * memory.spec.block_bytes
    slots, expected = (
        [torch.zeros(chunk_bytes, dtype=torch.uint8) for _ in range(2)] for _ in range(2)
    )
    CALLS.clear()
    _copy(memory, VendorCopier(memory, operators()), slots)
    vendor = name.split()[0]
    pairs = (len(memory.spec.planes) + 1) // 2
    assert [f"{vendor}_gather"] * 2 * pairs + [f"{vendor}_scatter"] * 2 * pairs == CALLS
    _copy(other, ReferenceCopier(other), expected)
    for slot, wanted in zip(slots, expected, strict=True):
        assert torch.equal(slot, wanted)
    for layer, wanted in zip(layers, again, strict=True):
        assert torch.equal(layer.view(torch.uint8), wanted.view(torch.uint8))


@pytest.mark.parametrize(
    ("axes", "dtype"),
    [(PageAxes.KV_FIRST_HND, torch.bfloat16), (PageAxes.KV_FIRST_NHD, torch.float32)],
)
def test_a_cache_that_does_not_fit_goes_to_aten(axes, dtype):
    memory = PageMemory.of_tensors(torch.zeros((2, 9, 4, 3, 8), dtype=dtype), axes)
    CALLS.clear()
    slots = [torch.zeros(2 * 2 * memory.spec.block_bytes, dtype=torch.uint8) for _ in range(2)]
    _copy(memory, VendorCopier(memory, NpuOperators()), slots)
    assert not CALLS


def test_the_dispatcher_refuses_other_arguments():
    empty = [torch.zeros(0, dtype=torch.int8)] * 6
    with pytest.raises(RuntimeError, match="Unknown keyword argument 'seq_offsets'"):
        torch.ops.npu.npu_gather_pa_kv_cache(*empty, seq_offsets=None)


def test_other_devices_have_no_vendor():
    memory = PageMemory.of_tensors(np.zeros((5, 4, 8), np.int16), PageAxes.MLA)
    with pytest.raises(ArgumentError, match=r"^device = 'cpu': vendor is for caches on npu or mlu"):
        open_copier(memory, Implementation.VENDOR)
    with pytest.raises(ArgumentError, match=r"^device = 'cpu': vendor is for npu and mlu"):
        VendorCopier(memory)


def test_without_the_operators(monkeypatch):
    monkeypatch.setattr(torch, "ops", type("Ops", (), {"npu": object(), "torch_mlu_ops": object()}))
    with pytest.raises(PluginMissingError, match="torch_npu has no operator"):
        NpuOperators()
    with pytest.raises(PluginMissingError, match="torch_mlu_ops has no operator"):
        MluOperators()
