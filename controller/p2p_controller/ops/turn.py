"""An instance asks for its turn to send a snapshot."""

from p2p.wire.exchange import Sender
from p2p.wire.messages import FeedStatus, Refusal, SnapshotTurn
from p2p_controller.members import Member
from p2p_controller.state import ControllerState


def turn(
    state: ControllerState, sender: Sender, message: SnapshotTurn, now_s: float
) -> FeedStatus | Refusal | None:
    """Lines the instance up; its answer is a status that allows pages, when its turn has come."""
    member = state.recognise(message, now_s)
    if not isinstance(member, Member):
        return member
    state.turns.wait(member, sender, now_s)
    return None
