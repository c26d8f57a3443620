"""Loads NIXL: the only module that imports it.

Loading is lazy and happens once. It leaves the process as it was: no log lines on the user's
terminal, no changed logging settings, no changed environment. The bindings are used directly,
because the Python wrapper above them fixes the progress thread to a busy loop of one core.
"""

import contextlib
import importlib
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from functools import cache
from types import ModuleType

from p2p.agent.ucx_log import UcxLog
from p2p.errors import PluginMissingError

_PACKAGES = ("nixl_cu13", "nixl_cu12", "nixl", "nixl_rocm")
_ERRORS = (
    "nixlBackendError",
    "nixlCancelledError",
    "nixlInvalidParamError",
    "nixlMismatchError",
    "nixlNoTelemetryError",
    "nixlNotAllowedError",
    "nixlNotFoundError",
    "nixlNotPostedError",
    "nixlNotSupportedError",
    "nixlRemoteDisconnectError",
    "nixlRepostActiveError",
    "nixlUnknownError",
)
_HOW_TO_INSTALL = "install p2p-kv[nixl] (CUDA 13, also for hosts without GPU) or p2p-kv[nixl-cu12]"
_environment_lock = threading.Lock()


class NixlLibrary:
    """NIXL in this process.

    Attributes:
        bindings: the native module.
        errors: every exception that it raises; they have no base class of their own.
        log: the log of the UCX library that NIXL brings.
    """

    def __init__(self, bindings: ModuleType) -> None:
        self.bindings = bindings
        self.errors = tuple(
            error
            for name in _ERRORS
            if isinstance(error := getattr(bindings, name, None), type)
            and issubclass(error, Exception)
        )
        self.log = UcxLog()

    def start_variables(self) -> dict[str, str]:
        """Returns variables to be set while an agent starts: UCX is loaded with the first one."""
        return {"UCX_LOG_FILE": self.log.path} if self.log.path else {}


@cache
def nixl_library() -> NixlLibrary:
    """Returns NIXL, imported at the first call.

    Raises:
        PluginMissingError: none of its packages is installed, or it cannot be loaded.
    """
    reasons = []
    for package in _PACKAGES:
        try:
            with _logging_restored(), environment({"NIXL_LOG_LEVEL": "FATAL"}):
                return NixlLibrary(importlib.import_module(f"{package}._bindings"))
        except ModuleNotFoundError as error:
            if error.name and not error.name.startswith(package):
                reasons.append(f"{package}: {error}")
        except ImportError as error:
            reasons.append(f"{package}: {error}")
    raise PluginMissingError(f"NIXL cannot be loaded: {_HOW_TO_INSTALL}. {'; '.join(reasons)}")


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets variables for the time of the block, except those that the user has set.

    NIXL and UCX take log settings and lists of names from nowhere else. They read them when they
    are loaded and when an agent starts.
    """
    with _environment_lock:
        ours = {name: value for name, value in variables.items() if name not in os.environ}
        os.environ.update(ours)
        try:
            yield
        finally:
            for name in ours:
                os.environ.pop(name, None)


@contextlib.contextmanager
def _logging_restored() -> Iterator[None]:
    """Undoes what NIXL does to `logging` when imported: INFO to stdout, errors swallowed."""
    raise_exceptions = logging.raiseExceptions
    try:
        yield
    finally:
        logging.raiseExceptions = raise_exceptions
        logger = logging.getLogger("nixl")
        logger.handlers.clear()
        logger.setLevel(logging.WARNING)
        logger.propagate = True
