"""NumPy in threads: those of the process, whatever is forked, opened or fails."""

import os
import threading

import numpy as np
import pytest

from p2p.kernels import ChunkSpec, PageAxes, PageMemory, copy_plan, gather
from p2p_kernels.numpy_kernels import NumpyCopier, ThreadedNumpyCopier

pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor")
CHUNK = ChunkSpec.canonical(2, 3, 16, 8, 2)
IDS = [7, 1, 3, 0]


def _memory(padding=0):
    pages = np.random.default_rng(1).integers(0, 1 << 16, (2, 9, 4, 3, 8 + padding), np.uint16)
    return PageMemory.of_tensors(pages[..., :8], PageAxes.KV_FIRST_NHD)


def _gathered(copier):
    slot = np.zeros(CHUNK.chunk_bytes, np.uint8)
    gather(copy_plan(copier.memory.spec, CHUNK, IDS), [slot], copier)
    return slot


def _named():
    return {each for each in threading.enumerate() if each.name.startswith("p2p-kernels")}


def test_all_copiers_have_the_same_threads():
    copiers = [ThreadedNumpyCopier(_memory()) for _ in range(20)]
    for copier in copiers:
        assert np.array_equal(_gathered(copier), _gathered(NumpyCopier(copier.memory)))
    assert 1 <= len(_named()) <= ThreadedNumpyCopier.max_threads - 1


def test_padded_pages_are_copied_in_threads_too(monkeypatch):
    copier = ThreadedNumpyCopier(_memory(padding=1))
    wanted = _gathered(NumpyCopier(copier.memory))
    workers = set()
    views = NumpyCopier._views

    def noted(self, plan, pieces, slot):
        workers.add(threading.current_thread())
        return views(self, plan, pieces, slot)

    monkeypatch.setattr(NumpyCopier, "_views", noted)
    assert np.array_equal(_gathered(copier), wanted)
    assert len(workers) > 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own():
    copier = ThreadedNumpyCopier(_memory())
    wanted = _gathered(copier)
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(_gathered(copier), wanted) else 1)
    for _ in range(1000):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        threading.Event().wait(0.01)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
        pytest.fail("the child waits for threads that it does not have")
    assert status == 0


def test_who_is_told_of_an_error_is_told_at_the_end(monkeypatch):
    copier = ThreadedNumpyCopier(_memory())
    _gathered(copier)
    ended = threading.Event()

    def copy(part):
        if part.start == 0:
            raise ZeroDivisionError
        threading.Event().wait(0.05)
        ended.set()

    with pytest.raises(ZeroDivisionError):
        copier._in_parts(100, copy)
    assert ended.is_set()
