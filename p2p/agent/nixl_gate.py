"""The gate in front of NIXL: one user at a time, and its errors in our words.

NIXL's agents are not thread-safe and release the interpreter lock, so two threads inside one
agent corrupt it. The owner serialises calls; the gate finds out cheaply if it does not.
"""

from collections.abc import Callable
from enum import Enum
from types import TracebackType

from p2p.errors import (
    ClosedError,
    LinkDownError,
    LocalError,
    MemoryUnavailableError,
    P2PError,
    PeerUnreachableError,
    PluginMissingError,
    ProtocolError,
)


class Doing(Enum):
    """What was tried when NIXL failed: decides whose fault it is."""

    START = "start"
    REGISTER = "register"
    CONNECT = "connect"
    PREPARE = "prepare"
    TRANSFER = "transfer"


_BAD_BYTES = {Doing.CONNECT: ("NIXL_ERR_MISMATCH", "NIXL_ERR_INVALID_PARAM")}
_TRANSLATIONS: dict[Doing, Callable[[str, str], P2PError]] = {
    Doing.START: lambda subject, code: PluginMissingError(f"{subject} does not start: {code}"),
    Doing.REGISTER: lambda subject, code: MemoryUnavailableError(
        f"{subject} cannot be registered: {code}"
    ),
    Doing.CONNECT: lambda subject, code: PeerUnreachableError(
        subject, f"NIXL does not connect: {code}"
    ),
    Doing.PREPARE: lambda subject, code: ProtocolError(
        f"{subject}: region lies outside of registered memory: {code}"
    ),
    Doing.TRANSFER: lambda subject, code: LinkDownError(subject, f"transfer failed: {code}"),
}


class Occupancy:
    """Whether an agent is in use, or gone."""

    __slots__ = ("agent", "is_closed", "is_taken")

    def __init__(self, agent: str) -> None:
        self.agent = agent
        self.is_taken = False
        self.is_closed = False


class Gate:
    """A reusable ``with`` block around calls into one agent, for one purpose.

    Args:
        occupancy: shared by all gates of the agent.
        foreign: NIXL's exceptions.
        doing: the purpose.
        subject: whom or what the calls concern; a peer, or what is registered.
    """

    __slots__ = ("_doing", "_foreign", "_occupancy", "_subject")

    def __init__(
        self,
        occupancy: Occupancy,
        foreign: tuple[type[Exception], ...],
        doing: Doing,
        subject: str,
    ) -> None:
        self._occupancy = occupancy
        self._foreign = foreign
        self._doing = doing
        self._subject = subject

    def __enter__(self) -> None:
        occupancy = self._occupancy
        if occupancy.is_taken or occupancy.is_closed:
            self._refuse()
        occupancy.is_taken = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._occupancy.is_taken = False
        if error is not None and isinstance(error, self._foreign):
            raise translated(self._doing, self._subject, error) from error

    def _refuse(self) -> None:
        agent = self._occupancy.agent
        if self._occupancy.is_closed:
            raise ClosedError(f"agent {agent} is closed")
        raise LocalError(f"agent {agent} is used by two threads at once; its owner must serialise")


def translated(doing: Doing, subject: str, error: BaseException) -> P2PError:
    """Returns our error for one of NIXL's. Their text is only a code such as NIXL_ERR_BACKEND."""
    code = str(error) or type(error).__name__
    if code in _BAD_BYTES.get(doing, ()):
        return ProtocolError(f"{subject}: metadata is not NIXL's, or is our own: {code}")
    return _TRANSLATIONS[doing](subject, code)
