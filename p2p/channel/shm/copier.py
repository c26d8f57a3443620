"""Threads that copy. Batches of a job are taken one by one, so that it can be stopped between two.

Long copies release the interpreter lock; short ones keep it, since taking it again costs more.
"""

import ctypes
import threading
from collections import deque
from collections.abc import Callable, Sequence

from p2p.channel.shm.pieces import Batch

_SHORT_BYTES = 16 << 10
_Move = Callable[[int, int, int], object]


def _memmove(library: ctypes.CDLL) -> _Move:
    move = library.memmove
    move.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    move.restype = None
    return move


_move_unlocked = _memmove(ctypes.CDLL(None))
_move_locked = _memmove(ctypes.PyDLL(None))


def copy_batch(batch: Batch) -> None:
    """Carries out the copies of a batch."""
    for target, source, num_bytes in batch:
        move = _move_locked if num_bytes <= _SHORT_BYTES else _move_unlocked
        move(target, source, num_bytes)


class CopyJob:
    """The batches of one transfer. Thread-safe.

    Args:
        batches: at least one.
        memory: kept alive until no thread touches it any more.
    """

    __slots__ = ("_batches", "_ended", "_lock", "_memory", "_num_running", "_num_taken")

    def __init__(self, batches: Sequence[Batch], memory: object) -> None:
        self._batches = batches
        self._memory: object = memory
        self._lock = threading.Lock()
        self._num_taken = 0
        self._num_running = 0
        self._ended = threading.Event()

    @property
    def num_batches(self) -> int:
        """All of its batches."""
        return len(self._batches)

    def copy_next(self) -> bool:
        """Copies the next batch; returns false if there is none to take."""
        with self._lock:
            if self._num_taken == len(self._batches):
                return False
            batch = self._batches[self._num_taken]
            self._num_taken += 1
            self._num_running += 1
        copy_batch(batch)
        with self._lock:
            self._num_running -= 1
            self._look_for_end()
        return True

    def stop(self) -> None:
        """Takes no further batch; those that are being copied are copied to their end."""
        with self._lock:
            self._batches = self._batches[: self._num_taken]
            self._look_for_end()

    def has_ended(self, timeout_s: float = 0.0) -> bool:
        """Returns whether no thread can touch memory for it any more; waits so long at most."""
        return self._ended.wait(timeout_s)

    def wait(self) -> None:
        """Waits until no thread can touch memory for it: after `stop`, for one batch a thread."""
        self._ended.wait()

    def _look_for_end(self) -> None:
        if self._num_taken == len(self._batches) and not self._num_running:
            self._memory = None
            self._ended.set()


class Copier:
    """Threads of a channel and its siblings; they start with the first job.

    Args:
        num_threads: at least one.
    """

    def __init__(self, num_threads: int) -> None:
        self._num_threads = num_threads
        self._threads: list[threading.Thread] = []
        self._jobs: deque[CopyJob] = deque()
        self._changed = threading.Condition()
        self._is_closed = False

    def submit(self, job: CopyJob) -> None:
        """Has a job copied, after those that were submitted before."""
        with self._changed:
            self._start_threads()
            self._jobs.append(job)
            self._changed.notify(min(job.num_batches, self._num_threads))

    def close(self) -> None:
        """Ends the threads. Jobs that were not stopped before are left where they are."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _start_threads(self) -> None:
        while len(self._threads) < self._num_threads:
            name = f"p2p-shm-copy-{len(self._threads)}"
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._is_closed:
                    self._changed.wait()
                if self._is_closed:
                    return
                job = self._jobs[0]
            while job.copy_next():
                pass
            self._forget(job)

    def _forget(self, job: CopyJob) -> None:
        """Nothing of it is left to take."""
        with self._changed:
            if self._jobs and self._jobs[0] is job:
                self._jobs.popleft()
