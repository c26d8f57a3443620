"""Keep chunks from being evicted."""

from p2p.wire.exchange import Sender
from p2p.wire.messages import Deed, Pin, PinKeys, Pinned, Refusal
from p2p_controller.operation import Operation
from p2p_controller.ops.concerned import shares_of
from p2p_controller.state import ControllerState


def pin(state: ControllerState, sender: Sender, message: Pin, now_s: float) -> Refusal | None:
    """Has the named instance, or every holder, pin what it has; the answer comes later."""
    shares = shares_of(state, message)
    if isinstance(shares, Refusal):
        return shares
    operation = Operation(sender, Pinned, now_s + message.timeout_ms / 1000)
    operation.num_unheld = shares.num_unheld
    state.orders.begin(operation)
    for share in shares.shares:
        order = PinKeys(
            id=0,
            namespace=share.member.namespace_id,
            keys=share.keys,
            key_bytes=message.key_bytes,
            tenant=message.tenant,
            pin_ms=message.pin_ms,
        )
        state.orders.give(operation, share.member, order, Deed.PINNED)
    return None
