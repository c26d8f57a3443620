"""Every implementation on a real GPU: ``pytest -m gpu``. The checks themselves run on the host."""

import importlib
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from p2p.errors import PluginMissingError
from p2p.kernels import ChunkSpec, Implementation, PageMemory, copy_plan, gather, scatter
from p2p_kernels.cuda_kernels import CudaDigester
from p2p_kernels.devices import DeviceKind, DeviceName, allocate_host, devices_here, open_stream
from p2p_kernels.reference import ReferenceCopier
from p2p_kernels.registry import create
from p2p_kernels.torch_kernels import TorchCopier
from tests.bench.kernels_gpu import measure
from tests.unit.kernels.caches import build, cases
from tests.unit.kernels.properties import check_digests

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
ON_GPU = [Implementation.TORCH, Implementation.TRITON, Implementation.CUDA, Implementation.DMA]


def tensors_on(case, engine, device):
    """The tensors of a case on a device, cut out of padded ones as on the host."""
    letters = case.axes.replace("X", "PHD")
    cut = tuple(slice(0, case.size[letter]) for letter in letters)
    bases = [torch.from_numpy(base).to(device, copy=True) for base in engine.bases]
    return bases, [base.view(getattr(torch, case.dtype))[cut] for base in bases]


def chunk_of(case, page):
    if "X" in case.axes:
        return ChunkSpec.opaque(len(page.planes), case.blocks_per_chunk, page.block_bytes)
    tokens = case.blocks_per_chunk * page.block_tokens
    return ChunkSpec.canonical(
        len(page.planes), case.chunk_heads, tokens, page.head_dim, page.item_bytes
    )


def check_same_as_on_the_host(way, device, slot_device, opener, case):
    """Runs a case by the reference on the host and by a copier on a device; all bytes agree."""
    engine = build(case)
    bases, tensors = tensors_on(case, engine, device)
    host = PageMemory.of_tensors(engine.tensors, case.axes)
    there = PageMemory.of_tensors(tensors, case.axes)
    rng = np.random.default_rng(case.seed)
    chunk_bytes = chunk_of(case, host.spec).chunk_bytes
    wanted = [rng.integers(0, 256, chunk_bytes, dtype=np.uint8) for _ in case.block_ids]
    slots = [torch.from_numpy(slot.copy()).to(slot_device) for slot in wanted]
    copy = gather if way == "gather" else scatter
    for memory, given_slots, copier in (
        (host, wanted, ReferenceCopier(host)),
        (there, slots, opener(there)),
    ):
        chunk = chunk_of(case, memory.spec)
        copy(copy_plan(memory.spec, chunk, case.block_ids, case.heads), given_slots, copier)
    for slot, expected in zip(slots, wanted, strict=True):
        np.testing.assert_array_equal(slot.cpu().numpy(), expected)
    for base, expected in zip(bases, engine.bases, strict=True):
        np.testing.assert_array_equal(base.cpu().numpy(), expected)


def run_cases(examples, device, slot_device, opener):
    for way in ("gather", "scatter"):
        _run_way(
            way, examples, partial(check_same_as_on_the_host, way, device, slot_device, opener)
        )


def _run_way(way, examples, check):
    @given(case=cases(for_scatter=way == "scatter"))
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def prop(case):
        check(case)

    prop()


def test_the_checks_run_on_the_host():
    run_cases(40, "cpu", "cpu", TorchCopier)


@pytest.mark.gpu
@NO_GPU
@pytest.mark.parametrize("slot_device", ["cuda:0", "cpu"])
@pytest.mark.parametrize("implementation", ON_GPU)
def test_equal_bytes(implementation, slot_device):
    def opener(memory):
        try:
            return create(memory, implementation)
        except PluginMissingError as error:
            pytest.skip(str(error))

    # Each shape is compiled anew by Triton, which takes a second or so.
    examples = 25 if implementation is Implementation.TRITON else 100
    run_cases(examples, "cuda:0", slot_device, opener)


@pytest.mark.gpu
@NO_GPU
@pytest.mark.parametrize("maker", ["triton", "cuda"])
def test_digests(maker):
    device = torch.device("cuda", 0)
    if maker == "triton":
        pytest.importorskip("triton")
        digester = importlib.import_module("p2p_kernels.triton_digest").TritonDigester(device)
    else:
        pytest.importorskip("cupy")
        digester = CudaDigester(device)

    class FromHost:
        """Takes chunks on the host, as the check makes them."""

        def leaf_digests(self, chunks, leaf_bytes):
            there = [torch.from_numpy(chunk).to(device) for chunk in chunks]
            return digester.leaf_digests(there, leaf_bytes)

    check_digests(FromHost())


@pytest.mark.gpu
@NO_GPU
def test_the_device_is_found():
    kind = DeviceKind.ROCM if torch.version.hip else DeviceKind.CUDA
    assert {each.kind: each for each in devices_here()}[kind].count == torch.cuda.device_count()


@pytest.mark.gpu
@NO_GPU
def test_streams_wait_for_each_other():
    name = DeviceName(DeviceKind.CUDA)
    first, second = open_stream(name), open_stream(name)
    buffer = allocate_host(1 << 26, name)
    assert buffer.is_pinned
    pinned = torch.from_numpy(buffer.array)
    with first.active():
        filled = torch.full((1 << 26,), 5, dtype=torch.uint8, device="cuda:0")
    second.wait(first.record())
    with second.active():
        pinned.copy_(filled, non_blocking=True)
    event = second.record()
    event.wait_host()
    assert event.is_done()
    assert (buffer.array == 5).all()


def test_the_measurement_runs_on_the_host():
    found = measure("cpu", [Implementation.TORCH], 128 << 20, 16 << 20, rounds=1)
    cases = [f"{way} {row}" for way in ("gather", "scatter") for row in (64, 256, 2048)]
    assert set(found["torch"]) == {*cases, "host gather 65536", "host scatter 65536"}
    assert all(share > 0 for share in found["torch"].values())


@pytest.mark.gpu
@pytest.mark.bench
@NO_GPU
def test_shares_of_a_plain_copy():
    """The project's targets, for an H100: of a device-to-device copy measured in the same run."""
    found = measure("cuda:0", ON_GPU)
    best = {
        case: max(shares.get(case, 0.0) for shares in found.values())
        for case in next(iter(found.values()))
    }
    for way in ("gather", "scatter"):
        assert best[f"{way} 2048"] >= 0.85
        assert best[f"{way} 256"] >= 0.60
        assert best[f"host {way} 65536"] >= 0.90
