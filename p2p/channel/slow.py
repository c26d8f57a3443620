"""Why a pair's transport is slower than it should be, and what would help. Pure functions."""

from collections.abc import Sequence

from p2p.agent.host_limits import HostLimits
from p2p.wire.messages import ProcessPlace

_ENOUGH_LOCKED = 1 << 30
_KERNEL_COPIES = frozenset({"cma", "cuda_ipc", "rocm_ipc", "posix", "sysv", "xpmem", "knem"})


def why_slow(
    ours: ProcessPlace,
    limits: HostLimits,
    transports: Sequence[str],
    channel: str,
    transport: str,
    theirs: ProcessPlace | None,
) -> str:
    """Returns a reason and what to do about it, or an empty string if all is well.

    Args:
        ours: where we run.
        limits: of our machine.
        transports: that the settings allow, or exclude with ``^``; empty allows all.
        channel: that serves the pair.
        transport: that it really uses.
        theirs: where the peer runs; None if it has not told.
    """
    used = frozenset(transport.split("+"))
    if channel != "nixl" or theirs is None or "tcp" not in used or used & _KERNEL_COPIES:
        return ""
    if theirs.boot == ours.boot:
        return _why_no_kernel_copy(ours, theirs, limits, transports)
    return _why_no_rdma(limits, transports)


def _why_no_kernel_copy(
    ours: ProcessPlace, theirs: ProcessPlace, limits: HostLimits, transports: Sequence[str]
) -> str:
    if not _allows("cma", transports):
        return f"nixl_transports = {','.join(transports)} leaves out cma, which is faster here"
    if ours.pid_namespace != theirs.pid_namespace:
        return (
            "the peer runs in another PID namespace, so the kernel does not copy between the two: "
            "run both with hostPID or shareProcessNamespace"
        )
    if ours.user != theirs.user:
        return (
            f"the peer runs as user {theirs.user}, we as {ours.user}, so the kernel does not copy "
            "between the two: run both as one user"
        )
    if limits.ptrace_scope:
        return (
            f"kernel.yama.ptrace_scope is {limits.ptrace_scope}, so the kernel does not copy "
            "between processes: set it to 0, or grant CAP_SYS_PTRACE"
        )
    return (
        "the kernel does not copy between the two processes: allow process_vm_readv "
        "(CAP_SYS_PTRACE, or a seccomp profile that has it)"
    )


def _why_no_rdma(limits: HostLimits, transports: Sequence[str]) -> str:
    if not limits.rdma_devices:
        return ""
    names = ", ".join(limits.rdma_devices)
    if not any(_allows(name, transports) for name in ("rc", "dc", "ud", "rc_mlx5", "rc_verbs")):
        return f"nixl_transports = {','.join(transports)} leaves out RDMA, and {names} is there"
    if not limits.has_rdma_files:
        return f"{names} is there, but /dev/infiniband is not: pass it into the container"
    if 0 <= limits.locked_bytes < _ENOUGH_LOCKED:
        return (
            f"ulimit -l is {limits.locked_bytes >> 10} KiB, too little for RDMA over {names}: "
            "set it to unlimited"
        )
    return f"{names} is not used: look for an inactive port, or a subnet that they do not share"


def _allows(name: str, transports: Sequence[str]) -> bool:
    """Returns whether settings let UCX use a transport."""
    if not transports:
        return True
    if transports[0].startswith("^"):
        return name not in {one.lstrip("^") for one in transports}
    return name in transports or "all" in transports
