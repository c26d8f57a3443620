"""Let chunks be evicted again."""

from p2p.wire.exchange import Sender
from p2p.wire.messages import Deed, Refusal, Unpin, UnpinKeys, Unpinned
from p2p_controller.operation import Operation
from p2p_controller.ops.concerned import shares_of
from p2p_controller.state import ControllerState


def unpin(state: ControllerState, sender: Sender, message: Unpin, now_s: float) -> Refusal | None:
    """Has the named instance, or every holder, unpin what it has; the answer comes later."""
    shares = shares_of(state, message)
    if isinstance(shares, Refusal):
        return shares
    operation = Operation(sender, Unpinned, now_s + message.timeout_ms / 1000)
    state.orders.begin(operation)
    for share in shares.shares:
        order = UnpinKeys(
            id=0,
            namespace=share.member.namespace_id,
            keys=share.keys,
            key_bytes=message.key_bytes,
            tenant=message.tenant,
        )
        state.orders.give(operation, share.member, order, Deed.UNPINNED)
    return None
