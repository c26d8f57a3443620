"""Which module carries out which operation."""

from typing import assert_never

from p2p.wire.exchange import Sender
from p2p.wire.messages import (
    Clear,
    Drain,
    Evict,
    Move,
    OperationRequest,
    Pin,
    Refusal,
    Replicate,
    Unpin,
)
from p2p_controller.ops.clear import clear
from p2p_controller.ops.drain import drain
from p2p_controller.ops.evict import evict
from p2p_controller.ops.move import move
from p2p_controller.ops.pin import pin
from p2p_controller.ops.replicate import replicate
from p2p_controller.ops.unpin import unpin
from p2p_controller.state import ControllerState


def operate(
    state: ControllerState, sender: Sender, message: OperationRequest, now_s: float
) -> Refusal | None:
    """Begins an operation, whose answer comes later, or refuses it."""
    match message:
        case Pin() | Unpin() | Evict():
            return _ask_holders(state, sender, message, now_s)
        case Replicate():
            return replicate(state, sender, message, now_s)
        case Move():
            return move(state, sender, message, now_s)
        case Clear():
            return clear(state, sender, message, now_s)
        case Drain():
            return drain(state, sender, message, now_s)
        case _:
            assert_never(message)


def _ask_holders(
    state: ControllerState, sender: Sender, message: Pin | Unpin | Evict, now_s: float
) -> Refusal | None:
    match message:
        case Pin():
            return pin(state, sender, message, now_s)
        case Unpin():
            return unpin(state, sender, message, now_s)
        case Evict():
            return evict(state, sender, message, now_s)
        case _:
            assert_never(message)
