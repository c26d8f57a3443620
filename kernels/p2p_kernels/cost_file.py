"""The file of measured costs: small JSON, shared by all processes of a machine.

A file that is damaged or of another version is ignored with a warning and replaced at the next
save. A save merges into what is there under a lock and replaces the file as a whole, so that
readers see an old or a new file, and two writers lose nothing. That a file cannot be written costs
the next process a measurement, nothing else.
"""

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TypeAlias

import msgspec

from p2p_kernels.costs import Cost, Direction, LayoutKind

_log = logging.getLogger(__name__)
_VERSION = 1
_LOCK_WAIT_S = 1.0

Costs: TypeAlias = dict[str, Cost]
"""Costs by implementation."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    devices: dict[str, dict[str, Costs]]


class CostFile:
    """Costs by device and by kind of layout and direction.

    Args:
        path: the file; none keeps costs nowhere.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._own: dict[tuple[str, str], Costs] = {}

    def load(self, device: str, kind: LayoutKind, direction: Direction) -> Costs:
        """Returns the costs that were measured, empty if none were."""
        return self.load_all(device).get((kind, direction), {})

    def load_all(self, device: str) -> dict[tuple[LayoutKind, Direction], Costs]:
        """Returns the costs of a device by kind and direction; reads the file once."""
        kept = self._read().devices.get(device, {})
        found = {}
        for kind, direction in product(LayoutKind, Direction):
            case = f"{kind}/{direction}"
            found[kind, direction] = kept.get(case, {}) | self._own.get((device, case), {})
        return found

    def save(self, device: str, kind: LayoutKind, direction: Direction, costs: Costs) -> None:
        """Adds costs; those of the same implementations before are replaced.

        What cannot be written is known to this object all the same.
        """
        case = f"{kind}/{direction}"
        self._own[device, case] = self._own.get((device, case), {}) | costs
        if self.path is None or not costs:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self.path.with_suffix(".lock"), _LOCK_WAIT_S):
                by_device = self._read().devices
                by_case = by_device.setdefault(device, {})
                by_case[case] = by_case.get(case, {}) | costs
                _replace(self.path, msgspec.json.encode(_File(_VERSION, by_device)))
        except OSError as error:
            _log.warning("measured costs of kernels are not kept in %s: %s", self.path, error)

    @contextmanager
    def turn(self, wait_s: float) -> Iterator[None]:
        """Holds other processes off measuring, which would slow each other down.

        Raises:
            TimeoutError: it was not this process's turn in time.
        """
        descriptor = None
        if self.path is not None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = _lock(self.path.with_suffix(".measuring"), wait_s)
            except TimeoutError:
                raise
            except OSError as error:  # a folder that cannot be written, another user's lock
                _log.info("others may measure kernels at the same time: %s", error)
        try:
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _read(self) -> _File:
        if self.path is not None:
            try:
                return _decoded(self.path.read_bytes())
            except FileNotFoundError:
                pass
            except (OSError, ValueError, RecursionError) as error:
                _warn_once(self.path, str(error))
        return _File(_VERSION, {})


@cache
def _warn_once(path: Path, problem: str) -> None:
    """Says what is wrong with a file, once in a process: it is read for every cache and layer."""
    _log.warning("costs of kernels in %s are ignored: %s", path, problem)


def _decoded(content: bytes) -> _File:
    found = msgspec.json.decode(content, type=_File)
    if found.version != _VERSION:
        raise ValueError(f"version = {found.version}: this one writes {_VERSION}")
    return found


def _replace(path: Path, content: bytes) -> None:
    with NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", delete=False) as new:
        try:
            new.write(content)
            new.flush()
            Path(new.name).replace(path)
        except OSError:
            Path(new.name).unlink(missing_ok=True)
            raise


@contextmanager
def _locked(path: Path, wait_s: float) -> Iterator[None]:
    """Holds a lock among processes and threads.

    Raises:
        TimeoutError: another held it for too long.
    """
    descriptor = _lock(path, wait_s)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path, wait_s: float) -> int:
    """Returns a descriptor that holds the lock until it is closed.

    Raises:
        TimeoutError: another held it for too long.
        OSError: there can be no such file.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _wait_for_lock(descriptor, path, wait_s)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _wait_for_lock(descriptor: int, path: Path, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} is held by another process") from None
            time.sleep(0.005)
        else:
            return
