"""What people are shown of a pair: the channel that serves, and why not a better one. Pure."""

from p2p.backend.pair import Pair, PairRules, Standing
from p2p.wire.messages import ChannelState, ChannelView, PairView


def view_of(pair: Pair, rules: PairRules, bytes_per_s: float | None, now_s: float) -> PairView:
    """Returns how we stand with a holder, of which so many bytes per second came lately."""
    is_used = bool(pair.used)
    ours = [*rules.names, *(name for name, _ in rules.absent)]
    names = dict.fromkeys([*ours, *pair.offers])
    return PairView(
        instance=pair.holder.instance,
        is_near=rules.is_near(pair.holder),
        channel=pair.used,
        transport=pair.transport if is_used else "",
        latency_ns=int(pair.latency_s * 1e9) if is_used else 0,
        bytes_per_s=int(bytes_per_s or 0),
        slow=pair.slow if is_used else "",
        channels=tuple(_channel_view(pair, rules, name, now_s) for name in names),
    )


def _channel_view(pair: Pair, rules: PairRules, name: str, now_s: float) -> ChannelView:
    standing = pair.standings.get(name, Standing())
    state, reason = _state_of(pair, rules, name, standing)
    retry_s = standing.retry_at_s - now_s if standing.is_demoted else 0.0
    retry_ms = int(max(0.0, retry_s) * 1000)
    return ChannelView(channel=name, state=state, reason=reason, retry_ms=retry_ms)


def _state_of(
    pair: Pair, rules: PairRules, name: str, standing: Standing
) -> tuple[ChannelState, str]:
    reason = _why_impossible(pair, rules, name)
    if reason:
        state = ChannelState.ABSENT
    elif name not in rules.allowed(pair.holder.instance)[0]:
        state, reason = ChannelState.FORBIDDEN, "the setting peer_channels leaves it out"
    elif name == pair.used:
        state = ChannelState.USED
    elif standing.is_refused:
        state, reason = ChannelState.REFUSED, standing.reason
    elif standing.is_demoted or standing.is_suspect:
        state, reason = ChannelState.DEMOTED, standing.reason
    else:
        serving = f"{pair.used} serves" if pair.used else "nothing is connected"
        state, reason = ChannelState.SPARE, standing.reason or serving
    return state, reason


def _why_impossible(pair: Pair, rules: PairRules, name: str) -> str:
    """Returns which of the two sides lacks a channel; an empty string if both have it."""
    absent = dict(rules.absent)
    if name in absent:
        return absent[name]
    if name not in rules.names:
        return "we do not speak it"
    if name not in pair.offers:
        return f"{pair.holder.instance} does not offer it"
    return ""
