"""What a process takes and does, seen from outside: Linux's ``/proc``."""

import resource
from pathlib import Path

_PAGE_BYTES = resource.getpagesize()


def rss_bytes(pid: int) -> int:
    """Returns the resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


def num_fds(pid: int) -> int:
    """Returns how many files a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def num_threads(pid: int) -> int:
    """Returns how many threads a process has."""
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


def is_stopped(pid: int) -> bool:
    """Returns whether every thread of a process stands still after SIGSTOP."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            state = (task / "stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):  # it ended just now
            continue
        if state != "T":
            return False
    return True
