"""Memory files that this process has mapped for good, and the seals that make them safe to lend.

A file that cannot shrink cannot kill who reads its pages.
"""

import fcntl
from dataclasses import dataclass

from p2p.errors import MemoryUnavailableError
from p2p.regions import PROBE_BYTES, Region

_F_SEAL_FUTURE_WRITE = 0x10  # since Linux 5.1; not in Python's fcntl
_SIZE_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


@dataclass(frozen=True, slots=True)
class SharedFile:
    """A memory file of this process, mapped whole.

    Attributes:
        descriptor: of the file; open until the process ends.
        address: where its first byte is mapped.
        num_bytes: its size.
    """

    descriptor: int
    address: int
    num_bytes: int

    def covers(self, region: Region) -> bool:
        """Returns whether every block of a region lies in the file."""
        return lies_within(region, self.address, self.num_bytes)

    def forbid_writers(self) -> None:
        """Lets the kernel refuse, for ever, whoever wants to map it for writing from now on.

        Raises:
            MemoryUnavailableError: the kernel is older than Linux 5.1.
        """
        try:
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _F_SEAL_FUTURE_WRITE)
        except OSError as error:
            reason = f"the pool cannot be sealed against writing: {error}"
            raise MemoryUnavailableError(reason) from error


_files: list[SharedFile] = []  # as immortal as the memory


def publish(file: SharedFile) -> None:
    """Notes a file that was mapped for good, so that `shared_file_of` finds it."""
    _files.append(file)


def shared_file_of(region: Region) -> SharedFile | None:
    """Returns the file of the shared arena in which a region lies; None for private memory."""
    return next((file for file in _files if file.covers(region)), None)


def lies_within(region: Region, address: int, num_bytes: int) -> bool:
    """Returns whether every block of a region, and its probe, lie between two addresses."""
    end = address + num_bytes
    probe = region.probe
    if probe is not None and not address <= probe.base <= end - PROBE_BYTES:
        return False
    return all(
        address <= segment.base
        and segment.base + segment.stride * (region.count - 1) + segment.length <= end
        for segment in region.segments
    )


def seal_size(descriptor: int) -> None:
    """Makes the size of a memory file final.

    Raises:
        OSError: it is no memory file, or was made without leave to seal it.
    """
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SIZE_SEALS)


def is_sealed(descriptor: int) -> bool:
    """Returns whether a memory file can neither shrink nor grow any more.

    Raises:
        OSError: it is no memory file.
    """
    return fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SIZE_SEALS == _SIZE_SEALS
