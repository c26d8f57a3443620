"""Have an instance fetch chunks, and the others drop them once all are there."""

from p2p.keys import split_keys
from p2p.wire.exchange import Sender
from p2p.wire.messages import Move, Moved, Refusal
from p2p_controller.operation import Operation
from p2p_controller.ops.concerned import Share, asked_group, asked_member_of, shares_by_holder
from p2p_controller.ops.evict import order_evictions
from p2p_controller.ops.replicate import asked_target, order_fetch
from p2p_controller.state import ControllerState

_HOLD_SLACK_MS = 2000
_LONGEST_MS = 86_400_000


def move(state: ControllerState, sender: Sender, message: Move, now_s: float) -> Refusal | None:
    """Has the target fetch, then the sources evict; the answer comes later.

    Nothing is evicted unless the target has reported every chunk as held; it keeps them until the
    sources' time should be over. Should that not be enough, because somebody stood still, nothing
    is lost: each source borrows the chunks from the target before it drops its own.
    """
    target = asked_target(state, message)
    if isinstance(target, Refusal):
        return target
    operation = Operation(sender, Moved, now_s + message.timeout_ms / 1000)
    operation.then = lambda: _evict(state, operation, message)
    state.orders.begin(operation)
    hold_ms = message.timeout_ms + round(1000 * state.settings.silent_after_s) + _HOLD_SLACK_MS
    hold_ms = min(hold_ms, _LONGEST_MS)
    order_fetch(state, operation, message, target, hold_ms)
    return None


def _evict(state: ControllerState, operation: Operation, message: Move) -> None:
    group = asked_group(state, message.namespace)
    if isinstance(group, Refusal):
        return
    keys = split_keys(message.keys, message.key_bytes)
    if message.source:
        source = asked_member_of(group, "source", message.source)
        shares: list[Share] = []
        if not isinstance(source, Refusal):  # else its chunks went with it
            shares.append(Share(source, len(keys), message.keys))
    else:
        held = shares_by_holder(group, keys, message.tenant).shares
        shares = [share for share in held if share.member.instance != message.target]
    order_evictions(state, operation, message, shares)
