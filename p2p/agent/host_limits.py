"""What this machine allows: where the process runs, and the limits that transports depend on.

Reads ``/proc`` and ``/sys`` once when asked; what cannot be read is taken as not there.
"""

import os
import resource
from dataclasses import dataclass
from pathlib import Path

from p2p.wire.messages import ProcessPlace

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PTRACE_SCOPE = Path("/proc/sys/kernel/yama/ptrace_scope")
_SHMEM_HUGE = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
_INFINIBAND = Path("/sys/class/infiniband")
_DEV_INFINIBAND = Path("/dev/infiniband")
_MODULES = Path("/proc/modules")
_PEER_MEMORY_MODULES = ("nvidia_peermem", "nv_peer_mem")
_EXPANDABLE = "expandable_segments:True"
_ALLOCATOR_VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


@dataclass(frozen=True, slots=True)
class HostLimits:
    """Limits and settings of this machine and process.

    Attributes:
        locked_bytes: that may be locked in memory (``ulimit -l``); -1 is no limit.
        ptrace_scope: of the kernel's Yama module; 0 lets processes of one user read each other.
        shmem_huge_pages: whether files of memory may have huge pages: ``never``, ``advise``, …
        rdma_devices: adapters that the kernel shows.
        has_rdma_files: ``/dev/infiniband`` is there.
        has_nvidia: a driver of NVIDIA devices is loaded.
        has_peer_memory: a module that lets adapters reach device memory is loaded.
        has_expandable_segments: torch's allocator is set to make memory that adapters cannot reach.
    """

    locked_bytes: int = -1
    ptrace_scope: int = 0
    shmem_huge_pages: str = ""
    rdma_devices: tuple[str, ...] = ()
    has_rdma_files: bool = False
    has_nvidia: bool = False
    has_peer_memory: bool = False
    has_expandable_segments: bool = False


def read_place() -> ProcessPlace:
    """Returns where this process runs."""
    return ProcessPlace(
        boot=_text(_BOOT_ID),
        pid_namespace=_link(Path("/proc/self/ns/pid")),
        network_namespace=_link(Path("/proc/self/ns/net")),
        user=os.geteuid(),
    )


def read_limits() -> HostLimits:
    """Returns what this machine and process allow."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    modules = {line.split(maxsplit=1)[0] for line in _text(_MODULES).splitlines()}
    return HostLimits(
        locked_bytes=-1 if soft == resource.RLIM_INFINITY else soft,
        ptrace_scope=_number(_text(_PTRACE_SCOPE)),
        shmem_huge_pages=_chosen(_text(_SHMEM_HUGE)),
        rdma_devices=tuple(sorted(entry.name for entry in _entries(_INFINIBAND))),
        has_rdma_files=_DEV_INFINIBAND.is_dir(),
        has_nvidia="nvidia" in modules,
        has_peer_memory=any(name in modules for name in _PEER_MEMORY_MODULES),
        has_expandable_segments=any(
            _EXPANDABLE in os.environ.get(name, "") for name in _ALLOCATOR_VARIABLES
        ),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _entries(path: Path) -> list[Path]:
    try:
        return list(path.iterdir())
    except OSError:
        return []


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _chosen(text: str) -> str:
    """Returns the word in brackets of such as ``always [advise] never``."""
    return text.partition("[")[2].partition("]")[0]
