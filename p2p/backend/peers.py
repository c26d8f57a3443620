"""Holders that the directory did not name: those that are known, and those that others named.

No I/O, no clock, no threads.
"""

from collections.abc import Sequence

from p2p.backend.fetch_context import FetchContext
from p2p.backend.handshake import PeerState
from p2p.backend.plan import spread
from p2p.wire.messages import Holder


def likely_peers(context: FetchContext, now_s: float) -> list[Holder]:
    """Returns a few members: first those we are linked to, then the nearest."""
    book = context.desk.book
    usable = _usable(context, now_s)
    usable.sort(key=lambda peer: book.state(peer.instance) is not PeerState.LINKED)
    return usable[: context.limits.direct_peers]


def named_peers(context: FetchContext, names: Sequence[str], now_s: float) -> list[Holder]:
    """Returns the members of these names, in an order that differs from reader to reader."""
    ours = context.desk.instance.identity.instance
    named = [peer for peer in _usable(context, now_s) if peer.instance in names]
    return sorted(named, key=lambda peer: spread(ours, peer.instance))


def _usable(context: FetchContext, now_s: float) -> list[Holder]:
    core = context.desk.instance
    ours = core.identity.instance
    known = core.membership.roster.known(now_s)
    return [peer for peer in known if peer.instance != ours and context.is_usable(peer, now_s)]
