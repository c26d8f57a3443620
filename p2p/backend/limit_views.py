"""Which limits and settings of a machine are shown, and what is wrong with them. Pure."""

from p2p.agent.host_limits import HostLimits
from p2p.wire.messages import LimitView

_ENOUGH_LOCKED = 1 << 30
_HUGE = frozenset({"always", "within_size", "advise", "force"})


def limit_views(limits: HostLimits, channels: tuple[str, ...]) -> tuple[LimitView, ...]:
    """Returns what channels depend on; a problem only where it matters on this machine.

    Args:
        limits: of the machine.
        channels: that are open.
    """
    views = [_locked(limits), _ptrace(limits, channels), _huge_pages(limits, channels)]
    if limits.has_nvidia:
        views += [_peer_memory(limits), _segments(limits)]
    return tuple(views)


def _locked(limits: HostLimits) -> LimitView:
    name = "ulimit -l"
    if limits.locked_bytes < 0:
        return LimitView(name=name, found="unlimited")
    found = f"{limits.locked_bytes >> 10} KiB"
    if not limits.rdma_devices or limits.locked_bytes >= _ENOUGH_LOCKED:
        return LimitView(name=name, found=found)
    return LimitView(
        name=name,
        found=found,
        fault="RDMA adapters are here, and memory that they read must be locked",
        advice="set it to unlimited, in the unit file or the container's settings",
    )


def _ptrace(limits: HostLimits, channels: tuple[str, ...]) -> LimitView:
    name, found = "kernel.yama.ptrace_scope", str(limits.ptrace_scope)
    if not limits.ptrace_scope or "nixl" not in channels:
        return LimitView(name=name, found=found)
    return LimitView(
        name=name,
        found=found,
        fault="nixl cannot let the kernel copy between two processes of this host",
        advice="set it to 0, grant CAP_SYS_PTRACE, or leave same-host pairs to shm",
    )


def _huge_pages(limits: HostLimits, channels: tuple[str, ...]) -> LimitView:
    name = "transparent_hugepage/shmem_enabled"
    found = limits.shmem_huge_pages or "unknown"
    if found in _HUGE or "shm" not in channels or found == "unknown":
        return LimitView(name=name, found=found)
    return LimitView(
        name=name,
        found=found,
        fault="pools of shared memory have small pages, which nixl reads slower",
        advice="echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled",
    )


def _peer_memory(limits: HostLimits) -> LimitView:
    name = "peer memory module"
    if limits.has_peer_memory or not limits.rdma_devices:
        return LimitView(name=name, found="loaded" if limits.has_peer_memory else "not needed")
    return LimitView(
        name=name,
        found="not loaded",
        fault="adapters reach device memory only through dmabuf, if driver and kernel have it",
        advice="modprobe nvidia_peermem",
    )


def _segments(limits: HostLimits) -> LimitView:
    name = "expandable_segments"
    if not limits.has_expandable_segments:
        return LimitView(name=name, found="off")
    return LimitView(
        name=name,
        found="on",
        fault="memory that torch allocates in this way is read remotely very slowly, or not",
        advice="take expandable_segments:True out of PYTORCH_CUDA_ALLOC_CONF",
    )
