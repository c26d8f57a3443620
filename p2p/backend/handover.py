"""Giving chunks to peers: everything, hottest first, before an instance leaves; or what is too hot.

A peer is offered one prompt's chunks at a time, fetches them as anybody would, and answers how many
it has then. Prompts with the same beginning go to the same peer. What a peer has no room for, or
does not answer to, is offered to the next; what could not be read ends there. No I/O, no clock, no
threads.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from p2p.backend.index import Index, IndexEntry
from p2p.keys import ChunkKey, join_keys
from p2p.wire.messages import Holder, Message, Register, TakenOver, TakeOver

_MAX_CHAIN = 4096
_LONGEST_OFFER_S = 10.0
_ANSWER_SLACK_S = 0.5
_OFFERS_PER_PEER = 2


@dataclass(frozen=True, slots=True)
class Chain:
    """Chunks of one prompt, from its first one on.

    Attributes:
        keys: in order.
        tenant: who may read all of them; empty for everybody.
    """

    keys: tuple[ChunkKey, ...]
    tenant: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A chain that a peer was asked to take over, until ``deadline_s``."""

    holder: Holder
    chain: Chain
    deadline_s: float


@dataclass(slots=True)
class _Taker:
    holder: Holder
    num_open: int = 0
    is_full: bool = False  # or not to be reached
    kept: set[ChunkKey] = field(default_factory=set)


def chain_of(index: Index, entry: IndexEntry) -> Chain | None:
    """Returns the chunks of a prompt up to an entry, from the last gap on.

    None if nobody may read all of them.
    """
    keys = [entry.key]
    tenants = set(entry.tenants)
    parent = entry.parent
    while parent is not None:
        before = index.get(parent)
        if before is None or before.is_damaged:
            break
        if "" not in before.tenants:
            tenants = tenants & set(before.tenants) if "" not in tenants else set(before.tenants)
        keys.append(before.key)
        parent = before.parent
    if not tenants:
        return None
    return Chain(tuple(reversed(keys))[:_MAX_CHAIN], min(tenants))


def hottest_chains(index: Index) -> list[Chain]:
    """Returns the prompts that are here, the one that was used last coming first."""
    leaves = sorted((entry for entry in index if not entry.num_children), key=lambda e: -e.used)
    chains = [chain_of(index, leaf) for leaf in leaves]
    return [chain for chain in chains if chain is not None]


class Handover:
    """Offers chains to peers until all are taken, nobody has room, or the time is over.

    Args:
        identity: who offers.
        chains: hottest first.
        peers: who may take them, in order of preference.
        deadline_s: nothing is waited for after that.
        batch: tells this handover from others of the same instance.

    Attributes:
        num_chunks: different chunks that are to be given.
    """

    def __init__(
        self,
        identity: Register,
        chains: Sequence[Chain],
        peers: Sequence[Holder],
        deadline_s: float,
        batch: int = 0,
    ) -> None:
        self.batch = batch
        self.deadline_s = deadline_s
        self.num_chunks = len({key for chain in chains for key in chain.keys})
        self._identity = identity
        self._waiting = deque(chains)
        self._takers = {peer.instance: _Taker(peer) for peer in peers}
        self._open: list[Offer] = []
        self._home: dict[ChunkKey, str] = {}  # of every prompt's first chunk

    @property
    def num_kept(self) -> int:
        """Different chunks that peers have said to have now."""
        return len(self._kept())

    @property
    def num_peers(self) -> int:
        """Peers that took something."""
        return sum(bool(taker.kept) for taker in self._takers.values())

    def is_over(self, now_s: float) -> bool:
        """Returns whether nothing more will come of it."""
        if now_s >= self.deadline_s:
            return True
        return not self._open and (not self._waiting or not self._with_room())

    def next_deadline_s(self) -> float:
        """Returns when `due` has something to do even if nothing is heard."""
        return min([self.deadline_s, *(o.deadline_s + _ANSWER_SLACK_S for o in self._open)])

    def takers_of(self, key: ChunkKey, reader: str) -> tuple[str, ...]:
        """Returns the peers that have a chunk by now; nobody if the reader is to be one of them."""
        if reader in self._takers and self._takers[reader].num_open:
            return ()
        return tuple(name for name, taker in self._takers.items() if key in taker.kept)

    def due(self, now_s: float) -> list[Offer]:
        """Returns the offers to make now."""
        for offer in [o for o in self._open if now_s >= o.deadline_s + _ANSWER_SLACK_S]:
            self.on_answer(offer, None)
        offers: list[Offer] = []
        while self._waiting and now_s < self.deadline_s:
            chain = self._waiting[0]
            taker = self._taker_for(chain)
            if taker is None:
                break
            self._waiting.popleft()
            deadline_s = min(self.deadline_s, now_s + _LONGEST_OFFER_S)
            offer = Offer(taker.holder, chain, deadline_s)
            taker.num_open += 1
            self._home[chain.keys[0]] = taker.holder.instance
            self._open.append(offer)
            offers.append(offer)
        return offers

    def message(self, offer: Offer, namespace: str, now_s: float) -> TakeOver:
        """Returns what a peer is asked."""
        blob, key_bytes = join_keys(offer.chain.keys)
        return TakeOver(
            instance=self._identity.instance,
            incarnation=self._identity.incarnation,
            namespace=namespace,
            keys=blob,
            key_bytes=key_bytes,
            ttl_ms=max(1, int(1000 * (offer.deadline_s - now_s))),
            tenant=offer.chain.tenant,
            batch=self.batch,
        )

    def on_answer(self, offer: Offer, answer: Message | None) -> None:
        """Takes a peer's answer; None if there was none. What it left goes to another."""
        if offer not in self._open:
            return
        self._open.remove(offer)
        taker = self._takers[offer.holder.instance]
        taker.num_open -= 1
        if isinstance(answer, TakenOver):
            taker.kept.update(offer.chain.keys[: answer.num_chunks])
            taker.is_full = taker.is_full or answer.is_full
            is_next = answer.is_full
        else:
            taker.is_full = is_next = True
        if is_next:
            self._waiting.appendleft(offer.chain)

    # ------------------------------------------------------------------ parts

    def _kept(self) -> set[ChunkKey]:
        return set().union(*(taker.kept for taker in self._takers.values()))

    def _with_room(self) -> list[_Taker]:
        return [taker for taker in self._takers.values() if not taker.is_full]

    def _taker_for(self, chain: Chain) -> _Taker | None:
        """Returns who is offered a chain: who has its beginning, else who has the least to do."""
        home = self._takers.get(self._home.get(chain.keys[0], ""))
        if home is not None and not home.is_full:
            return home if home.num_open < _OFFERS_PER_PEER else None
        free = [taker for taker in self._with_room() if taker.num_open < _OFFERS_PER_PEER]
        return min(free, key=lambda taker: (taker.num_open, len(taker.kept)), default=None)
