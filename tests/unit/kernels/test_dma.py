"""DMA: lists of copies, executed on host memory in the place of a driver.

What is handed to the driver is right; that a driver takes it is untested on hardware. The binding
itself runs where ``cuda-bindings`` is installed, over a stand-in for the driver's library.
"""

import ctypes
import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch

from p2p.errors import ArgumentError, PluginMissingError
from p2p.kernels import ChunkSpec, Implementation, PageAxes, PageMemory, copy_plan, open_copier
from p2p_kernels.dma_kernels import DmaCopier, copy_lists, open_driver
from tests.unit.kernels.children import run_child
from tests.unit.kernels.cuda_on_host import COMPILER
from tests.unit.kernels.driver_on_host import SOURCE
from tests.unit.kernels.properties import check_engine_sizes, check_gather, check_scatter


class HostRanges:
    """Copies ranges of host memory one by one; a `RangeCopier`."""

    def __init__(self):
        self.batches = []

    def copy(self, targets, sources, lengths):
        assert lengths.min() > 0
        self.batches.append(len(lengths))
        for target, source, length in zip(targets, sources, lengths, strict=True):
            ctypes.memmove(int(target), int(source), int(length))

    def wait_host(self):
        self.batches.append(0)


def _opened(memory):
    return DmaCopier(memory, HostRanges())


def test_any_cache_is_gathered():
    check_gather(_opened, 150)


def test_any_cache_is_scattered():
    check_scatter(_opened, 150)


def test_sizes_of_engines():
    check_engine_sizes(_opened)


def _plan(axes, shape, ids):
    memory = PageMemory.of_tensors(np.zeros(shape, np.int16), axes)
    page = memory.spec
    chunk = ChunkSpec.canonical(len(page.planes), page.num_heads, 8, page.head_dim, 2)
    return memory, copy_plan(page, chunk, ids)


@pytest.mark.parametrize(
    ("axes", "shape", "ids", "copies"),
    [
        (PageAxes.MLA, (9, 4, 8), [2, 3], 1),  # neighbours are one copy
        (PageAxes.MLA, (9, 4, 8), [3, 2], 2),
        (PageAxes.KV_FIRST_HND, (2, 9, 3, 4, 8), [2, 3], 2 * 3 * 2),  # a head of a block
        (PageAxes.KV_FIRST_NHD, (2, 9, 4, 3, 8), [2, 3], 2 * 3 * 8),  # a head of a token
    ],
)
def test_lists_are_as_short_as_can_be(axes, shape, ids, copies):
    memory, plan = _plan(axes, shape, [ids, ids])
    slots = [np.zeros(plan.shape.chunk.chunk_bytes, np.uint8) for _ in range(2)]
    pages, chunks, lengths = copy_lists(plan, slots)
    assert len(pages) == len(chunks) == len(lengths) == 2 * copies
    assert lengths.sum() == 2 * plan.shape.chunk.chunk_bytes
    ranges = HostRanges()
    DmaCopier(memory, ranges).gather(plan, slots)
    assert ranges.batches == [2 * copies, 0], "one batch, then waited for, as slots are on the host"


def test_nothing_to_copy_is_no_batch():
    memory, plan = _plan(PageAxes.MLA, (9, 4, 8), [-1, -1])
    ranges = HostRanges()
    DmaCopier(memory, ranges).scatter(plan, [np.zeros(plan.shape.chunk.chunk_bytes, np.uint8)])
    DmaCopier(memory, ranges).gather(_plan(PageAxes.MLA, (9, 4, 8), [])[1], [])
    assert ranges.batches == []


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
@pytest.mark.skipif(
    importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.bindings") is None,
    reason="cuda-bindings is not installed",
)
def test_the_binding_over_a_stand_in_for_the_driver(tmp_path):
    (tmp_path / "driver.c").write_text(SOURCE)
    library = tmp_path / "libcuda.so.1"
    flags = ["-shared", "-fPIC", "-x", "c", "-Wall", "-Werror", "-Wl,-soname,libcuda.so.1"]
    command = [str(COMPILER), *flags, tmp_path / "driver.c", "-o", library]
    subprocess.run(command, check=True, timeout=60)
    module, environ = "tests.unit.kernels.driver_on_host", {"LD_LIBRARY_PATH": str(tmp_path)}
    assert run_child(module, 60, environ=environ).endswith("passed\n")


def test_what_is_missing_is_named(monkeypatch):
    memory = PageMemory.of_tensors(np.zeros((5, 4, 8), np.int16), PageAxes.MLA)
    with pytest.raises(ArgumentError, match=r"^device = 'cpu': dma is for caches on cuda"):
        open_copier(memory, Implementation.DMA)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(PluginMissingError, match="dma needs torch and cuda-bindings"):
        open_driver("cuda:0")


def test_amd_has_no_binding(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda", type(sys)("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.bindings", type(sys)("cuda.bindings"))
    monkeypatch.setattr(sys.modules["cuda.bindings"], "driver", object(), raising=False)
    monkeypatch.setattr(torch.version, "hip", "6.3")
    with pytest.raises(ArgumentError, match="no binding of hipMemcpyBatchAsync"):
        open_driver("cuda:0")
