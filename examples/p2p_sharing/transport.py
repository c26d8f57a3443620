"""Says which transport UCX should pick between two processes of this machine.

Asked of the kernel, not of UCX or NIXL, so that the demo can compare what was really used with
what should have been.
"""

import ctypes
import os
from pathlib import Path

CMA = "cma"
TCP = "tcp"
_PTRACE_SCOPE = Path("/proc/sys/kernel/yama/ptrace_scope")
_FIRST_CLOSED_SCOPE = 2


class _Span(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def expected_transport() -> str:
    """Returns ``cma`` (one copy, by the kernel, from process to process) where that is allowed.

    Containers may forbid the system call, and Yama may forbid it between processes; then it is
    ``tcp``.
    """
    return CMA if _may_read_processes() and _read_works() else TCP


def _may_read_processes() -> bool:
    try:
        return int(_PTRACE_SCOPE.read_text()) < _FIRST_CLOSED_SCOPE
    except (OSError, ValueError):
        return True  # a kernel without Yama


def _read_works() -> bool:
    """Returns whether the kernel lets this process call process_vm_readv, tried on itself."""
    source, target = ctypes.create_string_buffer(b"x", 1), ctypes.create_string_buffer(1)
    try:
        read = ctypes.CDLL(None, use_errno=True).process_vm_readv
    except AttributeError:
        return False
    read.restype = ctypes.c_ssize_t
    local = _Span(ctypes.addressof(target), 1)
    remote = _Span(ctypes.addressof(source), 1)
    num_bytes: int = read(os.getpid(), ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
    return num_bytes == 1
