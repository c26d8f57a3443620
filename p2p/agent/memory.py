"""Arenas: the one long-lived memory of a rank that peers may read.

Peers that hold an arena's address may read it at any time, and a read of unmapped memory kills
its *holder* on some transports. So an arena is never unmapped while the process lives: `close`
only drops our references.
"""

import contextlib
import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from p2p.errors import ArgumentError, ClosedError, ConfigError, MemoryUnavailableError
from p2p.regions import MemoryKind, Region, Segment

if TYPE_CHECKING:
    import torch

Bytes = npt.NDArray[np.uint8]
_GIB = 1 << 30
_HUGE_BYTES = 2 << 20
_MADV_POPULATE_WRITE = 23  # since Linux 5.14; not in Python's mmap
_immortal: list[object] = []


class Arena(Protocol):
    """Memory that can be registered and cut into slots."""

    @property
    def address(self) -> int:
        """Address of the first byte, for as long as the process lives."""
        ...

    @property
    def num_bytes(self) -> int:
        """Usable bytes."""
        ...

    def region(self, slot_bytes: int) -> Region:
        """Returns the arena cut into slots of one segment; what is left at the end is unused.

        Raises:
            ArgumentError: not one slot fits.
        """
        ...

    def close(self) -> None:
        """Drops our references. The memory stays mapped until the process ends. Idempotent."""
        ...


class HostArena:
    """Memory of this host in huge pages where the kernel gives them, all of it touched.

    A same-host read of huge pages costs a third less than of small ones, since the kernel looks up
    every page. A forked child does not get the memory: it would take pages from under a transfer.

    Args:
        num_bytes: size; rounded up to whole pages.

    Raises:
        ConfigError: ``pool_bytes`` is more than what the host, or our control group, has left.
        MemoryUnavailableError: the kernel refuses.
    """

    def __init__(self, num_bytes: int) -> None:
        _check_size(num_bytes)
        size = -(-num_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        try:
            self._mapping = self._map(size + _HUGE_BYTES)
            advise(self._mapping)
        except (OSError, OverflowError) as error:
            raise MemoryUnavailableError(f"no arena of {num_bytes} bytes: {error}") from error
        keep_mapped(self._mapping)
        whole: Bytes = np.frombuffer(self._mapping, np.uint8)
        self.offset = -int(whole.ctypes.data) % _HUGE_BYTES  # of the arena in its mapping
        self._bytes: Bytes | None = whole[self.offset : self.offset + size]
        _touch(self._mapping, self._bytes)
        self.address = int(self._bytes.ctypes.data)
        self.num_bytes = size

    def region(self, slot_bytes: int) -> Region:
        """Returns the arena cut into slots of one segment."""
        return _slots(self.address, self.num_bytes, slot_bytes, MemoryKind.DRAM, 0)

    def view(self, offset: int, length: int) -> Bytes:
        """Returns a span as a writable array of bytes, without a copy.

        Raises:
            ArgumentError: the span does not lie in the arena.
            ClosedError: the arena was closed.
        """
        if self._bytes is None:
            raise ClosedError("the arena is closed")
        if offset < 0 or length < 0 or offset + length > self.num_bytes:
            reason = f"{length} bytes from there do not lie in an arena of {self.num_bytes}"
            raise ArgumentError("offset", offset, reason)
        return self._bytes[offset : offset + length]

    def close(self) -> None:
        """Drops our references; the mapping lives on, since peers may still read it."""
        self._bytes = None

    def _map(self, num_bytes: int) -> mmap.mmap:
        return mmap.mmap(-1, num_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class DeviceArena:
    """Memory of a device, allocated by torch. Untested on hardware.

    Expandable segments (``PYTORCH_CUDA_ALLOC_CONF``) make remote reads slow or impossible.

    Args:
        num_bytes: size.
        device: by torch's name; ``cpu`` is memory of this host, for tests.

    Raises:
        MemoryUnavailableError: torch is missing, or the device has not as much memory.
    """

    def __init__(self, num_bytes: int, device: str) -> None:
        try:
            import torch  # noqa: PLC0415  an optional package
        except ImportError as error:
            raise MemoryUnavailableError("device memory needs torch: p2p-kv[torch]") from error
        try:
            self._tensor = torch.empty(num_bytes, dtype=torch.uint8, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = f"no arena of {num_bytes} bytes on {device}: {error}"
            raise MemoryUnavailableError(reason) from error
        _immortal.append(self._tensor)
        self.address = int(self._tensor.data_ptr())
        self.num_bytes = num_bytes
        self._kind = MemoryKind.DRAM if self._tensor.device.type == "cpu" else MemoryKind.VRAM
        self._index = self._tensor.device.index or 0

    def region(self, slot_bytes: int) -> Region:
        """Returns the arena cut into slots of one segment."""
        return _slots(self.address, self.num_bytes, slot_bytes, self._kind, self._index)

    def view(self, offset: int, length: int) -> "torch.Tensor":
        """Returns a span as a tensor of bytes, without a copy.

        Raises:
            ArgumentError: the span does not lie in the arena.
        """
        if offset < 0 or length < 0 or offset + length > self.num_bytes:
            reason = f"{length} bytes from there do not lie in an arena of {self.num_bytes}"
            raise ArgumentError("offset", offset, reason)
        return self._tensor[offset : offset + length]

    def close(self) -> None:
        """Does nothing: peers may still read the memory, which lives as long as the process."""


def keep_mapped(mapping: mmap.mmap) -> None:
    """Keeps a mapping until the process ends."""
    _immortal.append(mapping)


def available_bytes() -> int:
    """Returns how much memory can be taken: the host's, or our control group's if that is less."""
    return min(_host_available(), _group_available())


def _check_size(num_bytes: int) -> None:
    if num_bytes < 1:
        raise ConfigError("pool_bytes", num_bytes, "must be at least 1")
    available = available_bytes()
    if num_bytes > available:
        reason = f"only {available / _GIB:.1f} GiB available on this host"
        raise ConfigError("pool_bytes", num_bytes, reason)


def _host_available() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * mmap.PAGESIZE


def _group_available() -> int:
    """Returns what the control group of a container leaves, as version 2 shows it at its root."""
    root = Path("/sys/fs/cgroup")
    try:
        limit = (root / "memory.max").read_text().strip()
        used = (root / "memory.current").read_text().strip()
        return max(int(limit) - int(used), 0)
    except (OSError, ValueError):
        return 1 << 62


def advise(mapping: mmap.mmap) -> None:
    """Asks for huge pages, which a kernel may not have, and keeps forked children out."""
    mapping.madvise(mmap.MADV_DONTFORK)
    with contextlib.suppress(OSError):
        mapping.madvise(mmap.MADV_HUGEPAGE)


def _touch(mapping: mmap.mmap, memory: Bytes) -> None:
    """Has the kernel map every page now: a first touch during a transfer halves its speed."""
    try:
        mapping.madvise(_MADV_POPULATE_WRITE)
    except OSError:
        memory[:: mmap.PAGESIZE] = 0


def _slots(address: int, num_bytes: int, slot_bytes: int, kind: MemoryKind, device: int) -> Region:
    if slot_bytes < 1 or slot_bytes > num_bytes:
        reason = f"an arena of {num_bytes} bytes holds no such slot"
        raise ArgumentError("slot_bytes", slot_bytes, reason)
    segment = Segment(address, slot_bytes, slot_bytes)
    return Region((segment,), num_bytes // slot_bytes, kind, device)
