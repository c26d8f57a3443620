"""Drop chunks, exactly those that are named, but for pinned ones."""

from collections.abc import Iterable

from p2p.wire.exchange import Sender
from p2p.wire.messages import Deed, Evict, Evicted, EvictKeys, Move, Refusal
from p2p_controller.operation import Operation
from p2p_controller.ops.concerned import Share, shares_of
from p2p_controller.state import ControllerState


def evict(state: ControllerState, sender: Sender, message: Evict, now_s: float) -> Refusal | None:
    """Has the named instance, or every holder, drop chunks; the answer comes later."""
    shares = shares_of(state, message)
    if isinstance(shares, Refusal):
        return shares
    operation = Operation(sender, Evicted, now_s + message.timeout_ms / 1000)
    state.orders.begin(operation)
    order_evictions(state, operation, message, shares.shares)
    return None


def order_evictions(
    state: ControllerState,
    operation: Operation,
    message: Evict | Move,
    shares: Iterable[Share],
) -> None:
    """Gives the orders for the chunks of each member."""
    for share in shares:
        order = EvictKeys(
            id=0,
            namespace=share.member.namespace_id,
            keys=share.keys,
            key_bytes=message.key_bytes,
            tenant=message.tenant,
            heir=message.target if isinstance(message, Move) else "",
        )
        state.orders.give(operation, share.member, order, Deed.EVICTED)
