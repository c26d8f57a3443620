"""What a fetch says to holders about leases, and whether their answers make sense.

No I/O, no clock, no threads.
"""

from collections.abc import Sequence

from p2p.backend.fetch_context import FetchContext
from p2p.keys import join_keys
from p2p.wire.messages import Holder, LeaseGranted, LeaseRenew, LeaseRequest

_LONGEST_S = 3600.0


def lease_request(
    context: FetchContext, holder: Holder, positions: Sequence[int], now_s: float
) -> LeaseRequest:
    """Returns the question whether a holder lends chunks of a fetch."""
    core = context.desk.instance
    blob, key_bytes = join_keys(context.keys[position] for position in positions)
    return LeaseRequest(
        instance=core.identity.instance,
        incarnation=core.identity.incarnation,
        holder_incarnation=holder.incarnation,
        namespace=core.namespace_id,
        keys=blob,
        key_bytes=key_bytes,
        ttl_ms=_ttl_ms(context, now_s),
        tenant=context.tenant,
        is_urgent=_is_urgent(context, now_s),
    )


def lease_renewal(context: FetchContext, token: int, now_s: float) -> LeaseRenew:
    """Returns the request for more time under a lease."""
    identity = context.desk.instance.identity
    return LeaseRenew(
        instance=identity.instance,
        incarnation=identity.incarnation,
        token=token,
        ttl_ms=_ttl_ms(context, now_s),
    )


def is_consistent(answer: LeaseGranted, num_asked: int) -> bool:
    """Returns whether a grant fits a question about so many chunks."""
    count, num_missing = len(answer.slots), len(answer.missing)
    looked_at = count + num_missing
    return (
        looked_at <= num_asked
        and len(set(answer.missing)) == num_missing
        and all(0 <= number < looked_at for number in answer.missing)
        and len(answer.generations) == count
        and (count == 0 or len(answer.roots) > 0)
        and all(len(roots) == count for roots in answer.roots)
    )


def _is_urgent(context: FetchContext, now_s: float) -> bool:
    if context.evict_before is not None:
        return True  # the holder itself wants it read
    is_late = now_s >= context.started_s + context.budget_s / 2
    patience_s = max(context.limits.patience_s, context.budget_s / 8)
    return is_late or now_s >= context.arrived_s + patience_s


def _ttl_ms(context: FetchContext, now_s: float) -> int:
    left_s = max(0.0, context.deadline_s - now_s) + context.limits.lease_slack_s
    return int(1000 * min(left_s, _LONGEST_S))
