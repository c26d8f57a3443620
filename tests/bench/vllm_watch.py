"""What the processes of a server hold: memory of their own, descriptors, threads."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SESSION_FIELD = 3  # of /proc/PID/stat, behind the command's name


@dataclass(frozen=True)
class Holding:
    """Of all processes of one server together.

    Attributes:
        anonymous_bytes: resident memory that is no file and not shared, so not the pool.
        descriptors: that are open.
        threads: that run.
    """

    anonymous_bytes: int
    descriptors: int
    threads: int


def holding_of(session: int) -> Holding:
    """Returns what the processes of a session hold."""
    found = [_holding(folder) for folder in _processes(session)]
    return Holding(
        sum(each.anonymous_bytes for each in found),
        sum(each.descriptors for each in found),
        sum(each.threads for each in found),
    )


def _processes(session: int) -> Iterator[Path]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[_SESSION_FIELD]) == session:
            yield folder


def _holding(folder: Path) -> Holding:
    try:
        lines = (folder / "status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return Holding(
            int(fields["RssAnon"].split()[0]) << 10,
            sum(1 for _ in (folder / "fd").iterdir()),
            int(fields["Threads"]),
        )
    except (OSError, KeyError):  # it has ended
        return Holding(0, 0, 0)
