"""The simulated controller process: what its server's loop does around the core."""

from collections.abc import Callable, Iterable

from p2p.wire.codec import RequestId
from p2p.wire.decoders import CONTROLLER_REQUESTS
from p2p.wire.exchange import Outgoing, Sender
from p2p.wire.messages import Clear, OperationRequest, Register
from p2p_controller.core import ControllerCore
from p2p_controller.settings import ControllerSettings
from tests.sim.clock import require
from tests.sim.network import Network
from tests.sim.operators import ROUTE
from tests.sim.wire import Server

SETTINGS = ControllerSettings(
    heartbeat_s=0.3, silent_after_s=1.0, forget_after_s=3.0, recovery_s=0.3, max_kept_events=64
)
_MAX_WAIT_S = 0.5
_MAX_GAP_S = 2.0  # standing still for longer is nobody's silence


class SimController(Server):
    """A controller that can crash and come again with a new epoch and an empty directory.

    Args:
        network: that it is on.
        on_reply: takes the answers to operations.
    """

    def __init__(self, network: Network, on_reply: Callable[[Outgoing], None]) -> None:
        super().__init__(network, "controller")
        self.on_reply = on_reply
        self.start()

    def start(self) -> None:
        """Starts with nothing."""
        self.begin()
        self.core = ControllerCore(SETTINGS, self.life)
        self._newest: dict[str, int] = {}
        self._heard_s = self.now_s()
        self._lost_s = 0.0
        self._tick()
        self.network.on_start(self)

    def listening_s(self) -> float:
        """Returns the time during which this process could have heard somebody."""
        now_s = self.now_s()
        gap_s = now_s - self._heard_s
        if gap_s > _MAX_GAP_S:
            self._lost_s += gap_s
        self._heard_s = now_s
        return now_s - self._lost_s

    def answer(self, sender: Sender, body: bytes) -> Iterable[Outgoing]:
        """Returns the core's answers."""
        message = CONTROLLER_REQUESTS.decode(body)
        answers = self.core.handle(sender, message, self.listening_s())
        if isinstance(message, Register):
            self._check_fence(message.instance)
        return answers

    def ask_clear(self) -> None:
        """Somebody at the command line wants every chunk dropped that is not lent."""
        self.run("peers", self._clear)

    def _clear(self) -> None:
        sender = Sender(b"somebody", RequestId(1))
        self.send_all(self.core.handle(sender, Clear(), self.listening_s()))

    def operate(self, sender: Sender, request: OperationRequest) -> None:
        """Somebody asks for an operation; the answer goes to `on_reply`."""
        self.send_all(self.core.handle(sender, request, self.listening_s()))

    def send_all(self, answers: Iterable[Outgoing]) -> None:
        """Sends answers on their way; people get theirs at once."""
        for outgoing in answers:
            if outgoing.to.route == ROUTE:
                self.on_reply(outgoing)
            else:
                super().send_all([outgoing])

    def _check_fence(self, instance: str) -> None:
        member = self.core._state.members.by_id.get(instance)  # type: ignore[call-overload]
        if member is not None:
            newest = self._newest.get(instance, -1)
            require(member.incarnation >= newest, f"an older start of {instance} took its place")
            self._newest[instance] = member.incarnation

    def _tick(self) -> None:
        now_s = self.listening_s()
        self.send_all(self.core.tick(now_s))
        wait_s = min(self.core.next_deadline_s(now_s) - now_s, _MAX_WAIT_S)
        self.later(max(wait_s, 0.001), "peers", "tick", self._tick)
