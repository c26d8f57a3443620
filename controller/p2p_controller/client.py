"""A blocking client of the controller, for the command line, tools and tests."""

from collections.abc import Iterable
from types import TracebackType
from typing import Self, TypeVar

from p2p.errors import PeerError, ProtocolError
from p2p.keys import ChunkKey, join_keys
from p2p.wire.context import WireContext
from p2p.wire.curve import CurveKeys
from p2p.wire.decoders import CONTROLLER_REPLIES
from p2p.wire.messages import (
    ControllerReply,
    ControllerRequest,
    ControllerStatus,
    Done,
    GetStatus,
    InstanceList,
    ListInstances,
    Locate,
    Located,
    Message,
    Refusal,
    Shutdown,
)
from p2p.wire.requester import Requester
from p2p_controller.operations_client import Operations
from p2p_controller.refusals import sentence_of

R = TypeVar("R", bound=Message)


class RequestRefusedError(PeerError):
    """The controller answered no.

    Args:
        address: of the controller.
        refusal: its answer.
    """

    def __init__(self, address: str, refusal: Refusal) -> None:
        super().__init__(address, sentence_of(refusal))
        self.refusal = refusal


class ControllerClient(Operations):
    """Asks one controller and waits for its answers.

    Args:
        address: of the controller.
        keys: our CURVE keys, where the controller runs with keys.
        timeout_s: how long to wait for an answer.
    """

    def __init__(
        self, address: str, *, keys: CurveKeys | None = None, timeout_s: float = 3.0
    ) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._wire = WireContext(keys)
        try:
            self._requester: Requester[ControllerReply] = Requester(
                self._wire, address, CONTROLLER_REPLIES
            )
        except BaseException:
            self._wire.close()
            raise

    def request(self, message: ControllerRequest, extra_s: float = 0.0) -> ControllerReply:
        """Returns the answer, whatever it is.

        Raises:
            PeerUnreachableError: none came in time.
        """
        return self._requester.request(message, self._timeout_s + extra_s)

    def ask(self, message: ControllerRequest, kind: type[R], extra_s: float = 0.0) -> R:
        """Returns the answer if it is of the expected kind.

        Raises:
            PeerUnreachableError: none came in time.
            RequestRefusedError: the controller said no.
            ProtocolError: it said something else.
        """
        reply = self.request(message, extra_s)
        if isinstance(reply, kind):
            return reply
        if isinstance(reply, Refusal):
            raise RequestRefusedError(self.address, reply)
        raise ProtocolError(f"{self.address}: {type(reply).__name__} is no answer to this")

    def status(self) -> ControllerStatus:
        """Returns how the controller is."""
        return self.ask(GetStatus(), ControllerStatus)

    def instances(self) -> InstanceList:
        """Returns who is known."""
        return self.ask(ListInstances(), InstanceList)

    def locate(
        self,
        namespace: str,
        keys: Iterable[ChunkKey],
        *,
        instance: str = "",
        tenant: str = "",
        rank: int | None = None,
    ) -> Located:
        """Returns who holds the longest prefix of these keys.

        Args:
            namespace: id of the namespace that the keys belong to.
            keys: of one prompt, in order.
            instance: only holders that this one can read.
            tenant: whose entries count besides nobody's.
            rank: holders name the ranks that this rank of ``instance`` reads from.
        """
        blob, key_bytes = join_keys(keys)
        question = Locate(
            namespace=namespace,
            keys=blob,
            key_bytes=key_bytes,
            instance=instance,
            tenant=tenant,
            rank=rank,
        )
        return self.ask(question, Located)

    def shutdown(self) -> None:
        """Ends the controller's process."""
        self.ask(Shutdown(), Done)

    def close(self) -> None:
        """Closes the connection."""
        self._requester.close()
        self._wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
