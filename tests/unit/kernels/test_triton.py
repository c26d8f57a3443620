"""Triton: the kernels in the interpreter, and compiled ahead of time for devices of two vendors."""

import importlib.util
import json

import numpy as np
import pytest

from p2p.errors import ArgumentError
from p2p.kernels import Implementation, PageAxes, PageMemory, open_copier
from tests.unit.kernels.children import run_child

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)
TARGETS = ["sm_80", "sm_90", "sm_100", "gfx90a", "gfx942"]


@pytest.mark.slow
def test_the_interpreter_runs_the_kernels():
    module = "tests.unit.kernels.triton_interpreted"
    assert run_child(module, 100, environ={"TRITON_INTERPRET": "1"}).endswith("passed\n")


@pytest.mark.slow
def test_compiled_kernels_access_16_bytes(tmp_path):
    cache = {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    found = json.loads(run_child("tests.unit.kernels.triton_ahead", *TARGETS, environ=cache))
    for target in TARGETS:
        for copied in ("nhd gather", "hnd scatter", "heads gather", "mla scatter"):
            compiled = found.pop(f"{target} {copied}")
            assert compiled["wide_loads"] >= 4, (target, copied)
            assert compiled["wide_stores"] >= 4, (target, copied)
        narrow = found.pop(f"{target} aligned to 8")
        assert not narrow["wide_loads"] + narrow["wide_stores"], "8 is not enough for 16"
        for kernel in ("sum_blocks", "chain_leaves"):
            assert found.pop(f"{target} {kernel}")["binary_bytes"] > 1000
    assert not found


def test_host_memory_is_refused():
    memory = PageMemory.of_tensors(np.zeros((5, 4, 8), np.int16), PageAxes.MLA)
    with pytest.raises(ArgumentError, match=r"^device = 'cpu': triton is for caches on"):
        open_copier(memory, Implementation.TRITON)
