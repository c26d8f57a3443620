"""UCX's log, kept off the user's terminal and read for the transport that UCX chose.

UCX writes to a file in memory instead of standard output. The protocol tables in it tell what
moves the bytes of an agent's reads; warnings and errors go on to our own logger. A log that
cannot be had or understood costs the knowledge, never the transfer.
"""

import ctypes
import logging
import mmap
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

_LOGGER = logging.getLogger(__name__)
_PREFIX = re.compile(r"^\[[\d.]+\] \[[^\]]*\]\s*")
_OWNER = re.compile(r"\| (\S+) (?:self|intra-node|inter-node) cfg#\d+")
_RESOURCE = re.compile(r"\b([a-z][a-z0-9_]*)/[A-Za-z0-9_.:\-]+")
_OPERATION = re.compile(r"\| (?:remote memory|active message|tagged|atomic|rendezvous)")
_READ = "remote memory read by ucp_get"
_LEVEL = re.compile(r"\bUCX\s+(WARN|ERROR|FATAL)\s+(.*)")
# A destroyed agent had transfers in flight; a dead peer is reported by an exception of ours.
_EXPECTED = re.compile(r"not returned to mpool|Connection (refused|reset)|somaxconn")
_OPEN_FILES = Path("/proc/self/fd")
_MAPPED_FILES = Path("/proc/self/maps")
_MAX_DRAIN_BYTES = 4 << 20

UNKNOWN = "unknown"


class UcxLog:
    """The log of the UCX library in this process. One per process; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fd = _open_memory_file()
        self._offset = 0
        self._transport_by_agent: dict[str, str] = {}
        self._owner = ""
        self._reads = False

    @property
    def path(self) -> str:
        """Where UCX has to write, or an empty string if there is no such place."""
        return f"/proc/{os.getpid()}/fd/{self._fd}" if self._fd >= 0 else ""

    def is_attached(self) -> bool:
        """Returns whether UCX really writes here; it may have been loaded before us."""
        if self._fd < 0:
            return False
        inode = os.fstat(self._fd).st_ino
        return sum(_inode(entry) == inode for entry in _OPEN_FILES.iterdir()) > 1

    def take_transport(self, agent: str) -> str:
        """Returns what moves the bytes of an agent's reads, or `UNKNOWN`; then forgets it."""
        with self._lock:
            for line in self._drain():
                self._follow(line)
            return self._transport_by_agent.pop(agent, UNKNOWN)

    def _drain(self) -> Iterator[str]:
        """Yields the lines since the last call, and gives their memory back."""
        if self._fd < 0:
            return
        try:
            _flush()
            content = os.pread(self._fd, _MAX_DRAIN_BYTES, self._offset)
            end = content.rfind(b"\n") + 1
            self._offset += end
            _free(self._fd, self._offset)
        except OSError as error:
            _LOGGER.debug("the log of UCX cannot be read: %s", error)
            return
        for line in content[:end].decode("utf-8", "replace").splitlines():
            yield _PREFIX.sub("", line)

    def _follow(self, line: str) -> None:
        """Advances through one line: an owner, then an operation, then ranges and transports."""
        if severe := _LEVEL.search(line):
            level = logging.DEBUG if _EXPECTED.search(line) else logging.WARNING
            _LOGGER.log(level, "UCX %s: %s", severe[1], severe[2].strip())
        elif owner := _OWNER.search(line):
            self._owner, self._reads = owner[1], False
        elif _OPERATION.search(line):
            self._reads = _READ in line
        elif self._reads and (names := _RESOURCE.findall(line)):
            self._transport_by_agent[self._owner] = "+".join(dict.fromkeys(names))


def _flush() -> None:
    """Has every UCX library in this process write out what it has buffered."""
    mapped = {line.split()[-1] for line in _MAPPED_FILES.read_text().splitlines()}
    for path in mapped:
        if Path(path).name.startswith("libucs"):
            flush = getattr(ctypes.CDLL(path), "ucs_log_flush", None)
            if flush is not None:
                flush()


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return -1


def _open_memory_file() -> int:
    try:
        return os.memfd_create("p2p-ucx-log")
    except OSError as error:
        _LOGGER.debug("no memory file for the log of UCX: %s", error)
        return -1


def _free(fd: int, end: int) -> None:
    """Gives back the whole pages of what was read; UCX goes on writing behind them."""
    whole_pages = end - end % mmap.PAGESIZE
    if whole_pages:
        with mmap.mmap(fd, whole_pages) as mapping:
            mapping.madvise(mmap.MADV_REMOVE)
