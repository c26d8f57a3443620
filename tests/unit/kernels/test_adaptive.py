"""The adaptive choice: by cost, measured within a budget, and never again one that was wrong."""

import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.errors import ArgumentError, ConfigError, LocalError
from p2p.kernels import (
    ChunkSpec,
    HeadRange,
    Implementation,
    KernelSettings,
    PageAxes,
    PagedCache,
    PageMemory,
    copy_plan,
    gather,
    open_copier,
    scatter,
)
from p2p_kernels.adaptive import AdaptiveCopier, Candidate, cheapest
from p2p_kernels.calibration import PLAIN_COPY, Calibration
from p2p_kernels.cost_file import CostFile
from p2p_kernels.costs import Cost, Direction, LayoutKind, Work
from p2p_kernels.machine import device_key
from p2p_kernels.numpy_kernels import NumpyCopier
from p2p_kernels.reference import ReferenceCopier
from p2p_kernels.registry import ENTRIES
from p2p_kernels.scratch import Scratch
from p2p_kernels.settings import cost_path
from tests.unit.kernels.caches import cases
from tests.unit.kernels.test_copy import test_gather as check_gather
from tests.unit.kernels.test_copy import test_scatter as check_scatter

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method:DeprecationWarning")
WAYS = (Direction.GATHER, Direction.SCATTER)
CHUNK = ChunkSpec.canonical(2, 3, 4, 8, 2)


def _memory(fill=None):
    pages = np.arange(2 * 4 * 2 * 3 * 8, dtype=np.uint16).reshape(2, 4, 2, 3, 8)
    if fill is not None:
        pages[:] = fill
    return PageMemory.of_tensors(pages, PageAxes.KV_FIRST_NHD)


class WrongCopier(NumpyCopier):
    """Copies, but the last byte of each slot, or of the pages, is off by one."""

    name = "torch"

    def gather(self, plan, slots):
        super().gather(plan, slots)
        for slot in slots:
            slot[-1] += 1

    def scatter(self, plan, slots):
        super().scatter(plan, slots)
        for _, in_page, _ in plan.pieces(0):
            self._planes[-1][in_page : in_page + plan.shape.page.stride_block] += 1


class FailingCopier(NumpyCopier):
    name = "compile"

    def gather(self, plan, slots):
        raise ArgumentError("compiler", "g++", "it is broken")

    scatter = gather


def _costs(call_s, row_s=0.0):
    return {(kind, way): Cost(call_s, 0.0, row_s) for kind in LayoutKind for way in WAYS}


def _adaptive(memory, *candidates):
    return AdaptiveCopier(memory, [Candidate(*each) for each in candidates])


def _gathered(memory, copier, ids=(3, 0)):
    slot = np.zeros(CHUNK.chunk_bytes, np.uint8)
    gather(copy_plan(memory.spec, CHUNK, ids), [slot], copier)
    return slot


def _expected(memory, ids=(3, 0)):
    return _gathered(memory, ReferenceCopier(memory), ids)


def test_each_copy_takes_the_cheapest():
    memory = _memory()
    few, many = NumpyCopier(memory), ReferenceCopier(memory)
    copier = _adaptive(
        memory, (few, Cost(), _costs(1.0, 1.0)), (many, Cost(), _costs(100.0, 0.001))
    )
    one = copy_plan(memory.spec, CHUNK, [3, 0])  # 24 rows
    ten = copy_plan(memory.spec, CHUNK, [3, 0] * 10)
    assert copier.choice(one, Direction.GATHER) is few
    assert copier.choice(ten, Direction.GATHER) is many
    assert np.array_equal(_gathered(memory, copier), _expected(memory))


def test_measured_costs_go_before_estimates():
    memory = _memory()
    known, unknown = NumpyCopier(memory), ReferenceCopier(memory)
    copier = _adaptive(memory, (unknown, Cost(1e-9), {}), (known, Cost(1.0), _costs(1.0)))
    plan = copy_plan(memory.spec, CHUNK, [3, 0])
    assert copier.choice(plan, Direction.GATHER) is known
    estimated = _adaptive(memory, (unknown, Cost(1e-9), {}), (known, Cost(1.0), {}))
    assert estimated.choice(plan, Direction.GATHER) is unknown


def test_a_later_one_must_be_clearly_faster():
    assert cheapest([1.0, 0.85]) == 0
    assert cheapest([1.0, 0.75]) == 1
    assert cheapest([None, 5.0, 4.8, None]) == 1
    assert cheapest([None, None]) == 0


@pytest.mark.parametrize("wrong", [WrongCopier, FailingCopier])
def test_a_wrong_one_is_struck_and_the_next_copies(wrong, caplog):
    memory = _memory()
    copier = _adaptive(memory, (wrong(memory), Cost(1.0), {}), (NumpyCopier(memory), Cost(2.0), {}))
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(_gathered(memory, copier), _expected(memory))
    assert list(copier.struck) == [wrong.name]
    assert f"{wrong.name} is not used" in caplog.text
    caplog.clear()
    assert np.array_equal(_gathered(memory, copier, (1, 2)), _expected(memory, (1, 2)))
    assert not caplog.records


def test_a_wrong_scatter_is_found_and_put_right():
    source, memory = _memory(), _memory(fill=0)
    copier = _adaptive(
        memory, (WrongCopier(memory), Cost(1.0), {}), (NumpyCopier(memory), Cost(2.0), {})
    )
    plan = copy_plan(memory.spec, CHUNK, [3, 0])
    scatter(plan, [_expected(source)], copier)
    assert "wrong bytes after scatter: chunk 0, plane 1" in copier.struck["torch"]
    assert np.array_equal(_expected(memory), _expected(source))
    assert copier.choice(plan, Direction.GATHER).name == "numpy"


def test_each_layout_and_direction_is_checked():
    """A copier that is wrong for some heads only, or in one direction only, is found later."""

    class WrongForSlices(NumpyCopier):
        name = "torch"

        def gather(self, plan, slots):
            super().gather(plan, slots)
            if plan.shape.heads.count == 1:
                for slot in slots:
                    slot[:] = 0

    memory = _memory(fill=7)
    copier = _adaptive(
        memory, (WrongForSlices(memory), Cost(1.0), {}), (NumpyCopier(memory), Cost(2.0), {})
    )
    assert np.array_equal(_gathered(memory, copier), _expected(memory))
    assert not copier.struck
    slot = np.zeros(CHUNK.chunk_bytes, np.uint8)
    gather(copy_plan(memory.spec, CHUNK, [3, 0], HeadRange(2, 1, 1)), [slot], copier)
    assert list(copier.struck) == ["torch"]
    by_head = slot.view(np.uint16).reshape(2, 3, -1)
    assert (by_head[:, 1] == 7).all()
    assert not by_head[:, [0, 2]].any()


def test_what_was_proven_is_not_remembered_for_ever():
    memory = _memory()
    copier = _adaptive(memory, (NumpyCopier(memory), Cost(1.0), {}))
    for _ in range(1000):  # each plan is of a shape of its own
        _gathered(memory, copier)
    assert len(copier._proven) <= 256


def test_one_that_was_proven_is_struck_everywhere():
    """What is wrong with one shape is not used for another either, though it was right there."""

    class WrongForSlices(NumpyCopier):
        name = "torch"

        def gather(self, plan, slots):
            super().gather(plan, slots)
            calls.append(plan.shape.heads.count)
            if plan.shape.heads.count == 1:
                slots[0][:] = 0

    calls: list[int] = []
    memory = _memory(fill=7)
    copier = _adaptive(
        memory, (WrongForSlices(memory), Cost(1.0), {}), (NumpyCopier(memory), Cost(2.0), {})
    )
    whole = copy_plan(memory.spec, CHUNK, [3, 0])
    part = copy_plan(memory.spec, CHUNK, [3, 0], HeadRange(0, 0, 1))
    slot = np.zeros(CHUNK.chunk_bytes, np.uint8)
    for plan in (whole, whole, part, whole):
        gather(plan, [slot], copier)
    assert calls == [3, 3, 1]


def test_when_all_are_struck_it_says_why():
    memory = _memory()
    copier = _adaptive(memory, (FailingCopier(memory), Cost(1.0), {}))
    with pytest.raises(LocalError, match=r"no implementation of kernels is left.*it is broken"):
        _gathered(memory, copier)


@given(gathered=cases(for_scatter=False), scattered=cases(for_scatter=True))
@settings(max_examples=100, deadline=None)
def test_all_layouts_agree_with_the_first_check(gathered, scattered):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger("p2p_kernels.adaptive"), "warning", _fail)
        check_gather.hypothesis.inner_test(Implementation.AUTO, gathered)
        check_scatter.hypothesis.inner_test(Implementation.AUTO, scattered)


def _fail(*message):
    pytest.fail(str(message))


class Clock:
    """Seconds that pass by each look at it."""

    def __init__(self, step_s):
        self.now_s, self.step_s = 0.0, step_s

    def __call__(self):
        self.now_s += self.step_s
        return self.now_s


@pytest.mark.slow
@pytest.mark.parametrize("kind", LayoutKind)
@pytest.mark.parametrize("way", WAYS)
def test_costs_are_measured(kind, way):
    costs = Calibration("cpu").measure([PLAIN_COPY, "numpy"], kind, way, 60.0)
    assert list(costs) == [PLAIN_COPY, "numpy"]
    for cost in costs.values():
        assert 0 < cost.byte_s + cost.row_s < 1e-3


@given(budget_s=st.floats(0.0, 3.0))
@settings(max_examples=20, deadline=None)
def test_the_budget_is_kept(budget_s):
    """By a clock that goes on 1 ms at each look: two look 12 times each at every size."""
    clock = Clock(0.001)
    names = ["numpy", "reference"]
    costs = Calibration("cpu", clock).measure(names, LayoutKind.STRIDED, Direction.GATHER, budget_s)
    assert clock.now_s <= budget_s + 0.01
    assert list(costs) == (names if budget_s > 0.13 else []) or 0.11 < budget_s < 0.13


def test_one_that_is_far_behind_does_not_use_up_the_budget(monkeypatch):
    class Sleeper(NumpyCopier):
        def gather(self, plan, slots):
            clock.now_s += 0.05

    clock = Clock(0.001)
    monkeypatch.setattr("p2p_kernels.reference.ReferenceCopier", Sleeper)
    costs = Calibration("cpu", clock).measure(
        ["numpy", "reference"], LayoutKind.STRIDED, Direction.GATHER, 60.0
    )
    assert clock.now_s < 0.4
    work = Work(8, 4096, 1 << 20)
    assert costs["reference"].seconds(work) > 10 * costs["numpy"].seconds(work)


def test_nobody_copies_what_another_has_brought_into_the_caches(monkeypatch):
    """The second of two alike was found to be 1.4 times as fast."""
    seeds: dict[tuple[int, ...], list[int]] = {}
    copy = Scratch.copy

    def noted(scratch, case, direction, seed):
        seeds.setdefault(case.memory.spec.planes, []).append(seed)
        return copy(scratch, case, direction, seed)

    monkeypatch.setattr(Scratch, "copy", noted)
    monkeypatch.setattr("p2p_kernels.calibration._ROWS", {LayoutKind.BLOCKS: (4,)})
    monkeypatch.setattr("p2p_kernels.calibration._PLANES", (1,))
    monkeypatch.setattr("p2p_kernels.calibration._SPANS", {LayoutKind.BLOCKS: (4096,)})
    names = ["numpy", "reference", PLAIN_COPY]
    found = Calibration("cpu", patience=1e9).measure(
        names, LayoutKind.BLOCKS, Direction.GATHER, 60.0
    )
    assert list(found) == names
    (of_one_size,) = seeds.values()
    assert len(set(of_one_size)) == len(of_one_size) == 18


def test_one_that_cannot_run_has_no_cost(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    costs = Calibration("cpu").measure(["torch"], LayoutKind.ROWS, Direction.GATHER, 60.0)
    assert costs == {}


def _settings(path, **change):
    return KernelSettings(cost_file=str(path), **change)


def _open(settings):
    pages = torch.zeros((2, 4, 2, 3, 8), dtype=torch.uint8)
    memory = PageMemory.of_tensors(pages, PageAxes.KV_FIRST_NHD)
    return PagedCache(memory, ChunkSpec.canonical(2, 3, 4, 8, 1), settings=settings)


@pytest.mark.slow
def test_opening_measures_once(tmp_path):
    path = tmp_path / "kernels.json"
    opened = _open(_settings(path, calibration_budget_s=20.0))
    known = CostFile(path).load(device_key("cpu"), LayoutKind.ROWS, Direction.GATHER)
    quick = {name for name, entry in ENTRIES.items() if not entry.starts_slowly}
    assert set(known) <= quick - {"reference"}
    assert {"numpy", "torch"} <= set(known)
    assert opened.implementation in known
    before = path.stat().st_mtime_ns
    _open(_settings(path, calibration_budget_s=20.0))
    assert path.stat().st_mtime_ns == before
    assert CostFile(path).load(device_key("cpu"), LayoutKind.BLOCKS, Direction.GATHER) == {}


def _costs_in(cache):
    return {each.copier.name: dict(each.costs) for each in cache._copier.candidates}


@pytest.mark.slow
@pytest.mark.parametrize("path", ["none", "file/kernels.json"])
def test_costs_that_cannot_be_kept_are_used(tmp_path, path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    opened = _open(_settings(path, calibration_budget_s=20.0))
    assert (LayoutKind.ROWS, Direction.GATHER) in _costs_in(opened)["numpy"]
    assert ("are not kept" in caplog.text) is (path != "none")


def test_only_one_process_measures_at_a_time(tmp_path):
    path = tmp_path / "kernels.json"
    with CostFile(path).turn(0.0):
        opened = _open(_settings(path, calibration_budget_s=0.05))
        assert not any(_costs_in(opened).values())
        with pytest.raises(TimeoutError), CostFile(path).turn(0.0):
            pass
    assert not path.exists()


@pytest.mark.slow
def test_what_another_process_measures_meanwhile_is_taken(tmp_path):
    path = tmp_path / "kernels.json"
    quick = [name for name, entry in ENTRIES.items() if not entry.starts_slowly]
    others = {str(name): Cost(0.1 if name == "torch" else 1.0) for name in quick}
    with ThreadPoolExecutor(1) as threads:
        with CostFile(path).turn(0.0):
            opening = threads.submit(_open, _settings(path, calibration_budget_s=20.0))
            for way in WAYS:
                CostFile(path).save(device_key("cpu"), LayoutKind.ROWS, way, others)
        opened = opening.result()
    assert opened.implementation is Implementation.TORCH
    assert _costs_in(opened)["numpy"] == {(LayoutKind.ROWS, way): Cost(1.0) for way in WAYS}


def test_without_calibration_nothing_is_measured(tmp_path):
    path = tmp_path / "kernels.json"
    assert _open(_settings(path, calibration="off")).implementation is Implementation.NUMPY
    assert not path.exists()


def test_the_file_decides(tmp_path):
    path = tmp_path / "kernels.json"
    costs = {"numpy": Cost(1.0), "torch": Cost(0.1)}
    CostFile(path).save(device_key("cpu"), LayoutKind.ROWS, Direction.GATHER, costs)
    cache = _open(_settings(path, calibration="off"))
    assert cache.implementation is Implementation.TORCH
    slots = [np.ones(cache.chunk.chunk_bytes, np.uint8)]
    cache.gather([0, 1], slots)
    assert not slots[0].any()
    assert cache.struck == {}
    CostFile(path).save(
        device_key("cpu"), LayoutKind.ROWS, Direction.GATHER, {"compile": Cost(0.01)}
    )
    assert _open(_settings(path, calibration="off")).implementation is Implementation.COMPILE


def test_settings_force(monkeypatch):
    monkeypatch.setenv("P2P_KERNELS_IMPLEMENTATION", "reference")
    assert open_copier(_memory()).name == "reference"
    assert open_copier(_memory(), Implementation.NUMPY).name == "numpy"
    monkeypatch.setenv("P2P_KERNELS_IMPLEMENTATION", "fastest")
    with pytest.raises(ConfigError, match=r"kernels.implementation = 'fastest': one of auto, "):
        open_copier(_memory())
    with pytest.raises(ConfigError, match=r"kernels.calibration_budget_s = -1"):
        KernelSettings(calibration_budget_s=-1.0).check()
    with pytest.raises(ConfigError, match=r"kernels.device_calibration_budget_s = 601"):
        KernelSettings(device_calibration_budget_s=601.0).check()


def test_a_device_is_given_time_to_compile():
    settings = KernelSettings(calibration_budget_s=0.1, device_calibration_budget_s=9.0)
    assert settings.budget_s("cpu") == 0.1
    assert settings.budget_s("cuda:1") == 9.0


def test_where_the_file_is(tmp_path):
    assert cost_path(KernelSettings(cost_file="none")) is None
    assert cost_path(KernelSettings(cost_file=str(tmp_path))) == tmp_path
    inside = cost_path(KernelSettings(), {"XDG_CACHE_HOME": str(tmp_path)})
    assert inside == tmp_path / "p2p" / "kernels.json"
    at_home = cost_path(KernelSettings(), {"XDG_CACHE_HOME": "relative"})
    assert at_home is not None
    assert at_home.parts[-3:] == (".cache", "p2p", "kernels.json")


def test_without_a_home_costs_are_kept_nowhere(monkeypatch):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    assert cost_path(KernelSettings(), {}) is None
    assert cost_path(KernelSettings(), {"XDG_CACHE_HOME": "/cache"}) == Path(
        "/cache/p2p/kernels.json"
    )


@pytest.mark.parametrize("text", ["~nobody-of-this-name/costs", ".", "/", "a\0b"])
def test_a_cost_file_that_cannot_be_is_refused(text):
    with pytest.raises(ConfigError, match=r"^kernels\.cost_file = "):
        KernelSettings(cost_file=text).check()


def test_a_cache_of_many_layers_opens_at_once(monkeypatch, tmp_path):
    """The file is read once for each layer, and versions of packages not again: that took 30 ms."""
    reads: list[object] = []
    read = CostFile._read

    def counted(file):
        reads.append(file)
        return read(file)

    def no_version(package):
        pytest.fail(f"the version of {package} was known")

    memory, settings = _memory(), _settings(tmp_path / "kernels.json", calibration="off")
    PagedCache(memory, CHUNK, settings=settings)
    monkeypatch.setattr(CostFile, "_read", counted)
    monkeypatch.setattr(metadata, "version", no_version)
    for _ in range(10):
        PagedCache(memory, CHUNK, settings=settings)
    assert len(reads) == 10


def _run(*arguments, **environ):
    paths = {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PATH": os.environ["PATH"],
        "HOME": "/nowhere",
    }
    return subprocess.run(
        [sys.executable, *arguments],
        env=paths | environ, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip


@pytest.mark.slow
def test_the_table(tmp_path):
    path = tmp_path / "kernels.json"
    costs = {"copy": Cost(byte_s=1e-10), "numpy": Cost(byte_s=1.25e-10)}
    CostFile(path).save(device_key("cpu"), LayoutKind.ROWS, Direction.GATHER, costs)
    done = _run("-m", "p2p_kernels", P2P_KERNELS_COST_FILE=str(path))
    assert done.returncode == 0, done.stderr
    lines = {line.partition("  ")[0]: line for line in done.stdout.splitlines()}
    assert lines["torch"].split(maxsplit=1)[1] == "can run"
    assert "8.00 (0.80)" in lines["numpy"]
    assert lines["chosen"].split()[1:] == ["numpy"] * 4
    assert "scatter, blocks" in done.stdout
    assert done.stdout.count("not measured") == 5
    CostFile(path).save(device_key("cpu"), LayoutKind.ROWS, Direction.SCATTER, {"numpy": Cost()})
    done = _run("-m", "p2p_kernels", P2P_KERNELS_COST_FILE=str(path))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_measuring_from_the_command_line(tmp_path):
    path = tmp_path / "kernels.json"
    only = ("--only", "numpy", "--only", "reference")
    done = _run("-m", "p2p_kernels", "--measure", *only, P2P_KERNELS_COST_FILE=str(path))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("measuring") == len(LayoutKind) * len(WAYS)
    assert "not measured" not in done.stdout
    for kind in LayoutKind:
        for way in WAYS:
            costs = CostFile(path).load(device_key("cpu"), kind, way)
            assert set(costs) == {PLAIN_COPY, "numpy", "reference"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("chosen")]
    assert len(lines) == len(LayoutKind) * len(WAYS)
    assert set(lines[2].split()[1:]) == {"numpy"}, "rows are not copied in a loop"
    wrong = _run("-m", "p2p_kernels", "--measure", "--only", "martian")
    assert wrong.returncode == 2
    assert "martian" in wrong.stderr


@pytest.mark.slow
def test_the_table_of_a_device_that_is_not_there():
    done = _run("-m", "p2p_kernels", "--device", "nonsense")
    assert done.returncode == 2
    assert done.stderr.startswith("no device nonsense")


_NO_TORCH = "import sys; sys.modules['torch'] = None\n"


@pytest.mark.slow
def test_a_machine_without_torch(tmp_path):
    code = (
        _NO_TORCH
        + """
import p2p, p2p.kernels, numpy as np
from p2p.backend import P2PBackend
from p2p.kernels import ChunkSpec, PagedCache, PageMemory
pages = np.arange(2 * 4 * 2 * 3 * 8, dtype=np.uint16).reshape(2, 4, 2, 3, 8)
cache = PagedCache(PageMemory.of_tensors(pages, "KBPHD"), ChunkSpec.canonical(2, 3, 4, 8, 2))
slot = np.zeros(cache.chunk.chunk_bytes, np.uint8)
cache.gather([3, 0], [slot])
assert slot.view(np.uint16).reshape(2, 3, 4, 8)[1, 2, 3, 7] == pages[1, 0, 1, 2, 7]
assert sys.modules["torch"] is None
print(cache.implementation)
"""
    )
    done = _run("-c", code, P2P_KERNELS_COST_FILE=str(tmp_path / "kernels.json"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in {"numpy", "numpy-threads"}


@pytest.mark.slow
def test_the_table_without_torch(tmp_path):
    code = _NO_TORCH + "from p2p_kernels.__main__ import main; sys.exit(main())"
    done = _run("-c", code, P2P_KERNELS_COST_FILE=str(tmp_path / "kernels.json"))
    assert done.returncode == 0, done.stderr
    assert "no: torch" in done.stdout


@pytest.mark.slow
def test_the_controller_imports_no_kernels():
    code = "import sys, p2p_controller.__main__; sys.exit(any('kernels' in m for m in sys.modules))"
    assert _run("-c", code).returncode == 0
