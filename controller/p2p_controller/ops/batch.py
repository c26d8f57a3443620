"""What event batches and snapshot pages have in common: whether they are well-formed."""

from p2p.wire.messages import Events, Refusal, SnapshotPage
from p2p_controller.state import ControllerState

MAX_SEQ = 1 << 62
_KINDS = bytes(range(3))


def refuse_bad_batch(state: ControllerState, batch: Events | SnapshotPage) -> Refusal | None:
    """Returns the refusal of a batch that cannot be applied as a whole, or None."""
    num_keys, rest = divmod(len(batch.keys), batch.key_bytes)
    if rest or num_keys != len(batch.kinds):
        reason = f"{len(batch.keys)} bytes for {len(batch.kinds)} keys of {batch.key_bytes}"
        return state.refuse_malformed("keys", reason)
    unknown = batch.kinds.translate(None, _KINDS)
    if unknown:
        return state.refuse_malformed("kinds", f"unknown kind {unknown[0]}")
    return None
