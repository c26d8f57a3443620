"""Costs: constants come back out of the times they make, and files of them survive everything."""

import json
import logging
import multiprocessing as mp
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.kernels import ChunkSpec, HeadRange, PageAxes, PageMemory, copy_plan, copy_shape
from p2p_kernels.cost_file import CostFile
from p2p_kernels.costs import Cost, Direction, LayoutKind, Work, fitted, layout_kind, work_of

WORKS = [Work(p, r, r * b) for p in (1, 8) for r in (64, 2048) for b in (64, 1024, 4096)]
CONSTANT = st.one_of(st.just(0.0), st.floats(1e-9, 1e-4))
GATHER = (LayoutKind.ROWS, Direction.GATHER)


@given(call=CONSTANT, plane=CONSTANT, row=CONSTANT, byte=st.floats(1e-12, 1e-9))
def test_constants_are_found_again(call, plane, row, byte):
    wanted = Cost(call, plane, row, byte)
    found = fitted(WORKS, [wanted.seconds(work) for work in WORKS])
    for work in WORKS:
        assert found.seconds(work) == pytest.approx(wanted.seconds(work), rel=0.01)


@given(st.lists(st.floats(1e-6, 1e-2), min_size=len(WORKS), max_size=len(WORKS)))
def test_no_constant_is_negative(seconds):
    found = fitted(WORKS, seconds)
    assert min(found.call_s, found.plane_s, found.row_s, found.byte_s) >= 0
    assert all(found.seconds(work) > 0 for work in WORKS)


def test_of_few_copies_all_is_bytes():
    assert fitted([Work(1, 2, 100), Work(1, 4, 1000)], [1.0, 5.0]) == Cost(byte_s=0.01)


def _page(axes, shape):
    return PageMemory.of_tensors(np.zeros(shape, "u2"), axes).spec


@pytest.mark.parametrize(
    ("axes", "shape", "kind"),
    [
        (PageAxes.MLA, (4, 2, 8), LayoutKind.BLOCKS),
        (PageAxes.KV_FIRST_NHD, (2, 4, 2, 3, 8), LayoutKind.ROWS),
        (PageAxes.KV_FIRST_HND, (2, 4, 3, 2, 8), LayoutKind.ROWS),
    ],
)
def test_kinds(axes, shape, kind):
    page = _page(axes, shape)
    chunk = ChunkSpec.canonical(len(page.planes), page.num_heads, 4, 8, 2)
    assert layout_kind(copy_shape(page, chunk)) is kind


def test_padded_rows_are_strided():
    page = PageMemory.of_tensors(np.zeros((4, 2, 3, 12), "u2")[..., :8], "BPHD").spec
    assert layout_kind(copy_shape(page, ChunkSpec.canonical(1, 3, 4, 8, 2))) is LayoutKind.STRIDED


def test_work():
    page = _page(PageAxes.KV_FIRST_NHD, (2, 4, 2, 3, 8))
    chunk = ChunkSpec.canonical(2, 3, 4, 8, 2)
    assert work_of(copy_plan(page, chunk, [[0, 1], [2, 3]])) == (4, 48, 768)
    assert work_of(copy_plan(page, chunk, [0, 1], HeadRange(1, 0, 2))) == (2, 16, 256)


def test_costs_are_kept(tmp_path):
    path = tmp_path / "deep" / "kernels.json"
    file = CostFile(path)
    assert file.load("cpu", *GATHER) == {}
    file.save("cpu", *GATHER, {"numpy": Cost(1, 2, 3, 4), "torch": Cost(9)})
    file.save("cpu", *GATHER, {"torch": Cost(5)})
    file.save("gpu", *GATHER, {"torch": Cost(6)})
    assert CostFile(path).load("cpu", *GATHER) == {"numpy": Cost(1, 2, 3, 4), "torch": Cost(5)}
    assert file.load("gpu", *GATHER) == {"torch": Cost(6)}
    assert file.load("cpu", LayoutKind.BLOCKS, Direction.GATHER) == {}
    assert sorted(each.name for each in path.parent.iterdir()) == [
        "kernels.json",
        "kernels.lock",
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"version": 2, "devices": {}}',
        b'{"version": 1, "devices": {"cpu": {"rows/gather": {"numpy": {"row_s": "x"}}}}}',
        b'{"version": 1, "devices": {"cpu": {"rows/gather": {"numpy": {"row_s": -1}}}}}',
        b'{"version": 1, "devices": {}, "more": 1}',
    ],
)
def test_a_damaged_file_is_ignored_said_and_replaced(tmp_path, caplog, content):
    path = tmp_path / "kernels.json"
    file = CostFile(path)
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert file.load("cpu", *GATHER) == {}
    assert str(path) in caplog.text
    assert "ignored" in caplog.text
    file.save("cpu", *GATHER, {"numpy": Cost(1)})
    caplog.clear()
    assert file.load("cpu", *GATHER) == {"numpy": Cost(1)}
    assert not caplog.text
    assert json.loads(path.read_bytes())["version"] == 1


def test_costs_may_be_kept_nowhere(tmp_path, caplog):
    CostFile(None).save("cpu", *GATHER, {"numpy": Cost(1)})
    assert CostFile(None).load("cpu", *GATHER) == {}
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        CostFile(tmp_path / "file" / "kernels.json").save("cpu", *GATHER, {"numpy": Cost(1)})
    assert "are not kept" in caplog.text


@pytest.mark.parametrize("suffix", [".measuring", ".lock"])
def test_a_lock_that_cannot_be_had_stops_nobody(tmp_path, suffix):
    """As one that another user made, or on a file system that has none."""
    file = CostFile(tmp_path / "kernels.json")
    (tmp_path / f"kernels{suffix}").mkdir()
    with file.turn(0.0):
        file.save("cpu", *GATHER, {"numpy": Cost(1)})
    assert file.load("cpu", *GATHER) == {"numpy": Cost(1)}


def test_a_damaged_file_is_spoken_of_once(tmp_path, caplog):
    """It is read for every cache that is opened, and for every layer of one."""
    path = tmp_path / "kernels.json"
    path.write_bytes(b"{")
    for _ in range(3):
        assert CostFile(path).load("cpu", *GATHER) == {}
    assert len(caplog.records) == 1


def _save_many(path, name, count):
    file = CostFile(path)
    for number in range(count):
        file.save(f"{name}-{number}", *GATHER, {"numpy": Cost(number)})


@pytest.mark.slow
def test_processes_lose_nothing_of_each_other(tmp_path, caplog):
    path, spawn = tmp_path / "kernels.json", mp.get_context("spawn")
    writers = [spawn.Process(target=_save_many, args=(path, f"w{n}", 25)) for n in range(3)]
    for writer in writers:
        writer.start()
    file = CostFile(path)
    while any(writer.is_alive() for writer in writers):
        file.load("w0-0", *GATHER)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    for name in (f"w{n}-{number}" for n in range(3) for number in range(25)):
        assert file.load(name, *GATHER) == {"numpy": Cost(int(name.partition("-")[2]))}
    assert not caplog.records
    assert len(os.listdir(tmp_path)) == 2  # noqa: PTH208 - names only
