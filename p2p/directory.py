"""Who holds which chunk, within one namespace. No I/O, no clock, no threads.

A chunk key maps to a bit set of holdings. A holding is what one instance holds in one state of its
feed: a snapshot is taken into a holding of its own, which nobody sees until it is complete, and
what is not seen any more is swept a piece at a time. So neither a snapshot nor the loss of an
instance stops the world. Entries of each tenant are a map of their own.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from p2p.keys import ChunkKey, view_hash_of

EVICT = 0  # a kind's value on the wire; every other kind admits
_VIEW_HASH_MASK = (1 << 64) - 1
_MAX_SHARED_MASKS = 1 << 14


class Run(NamedTuple):
    """Consecutive chunks with the same visible holdings, whose bits are ``mask``."""

    start: int
    num_chunks: int
    mask: int


class Holding:
    """The entries of one bit.

    Attributes:
        position: of the bit.
        bit: ``1 << position``.
        keys_by_tenant: what is held.
        num_entries: how much that is.
        view_hash: order-free sum over all entries, see `p2p.keys.view_hash_of`.
    """

    __slots__ = ("bit", "keys_by_tenant", "num_entries", "position", "view_hash")

    def __init__(self, position: int) -> None:
        self.position = position
        self.bit = 1 << position
        self.keys_by_tenant: dict[str, set[ChunkKey]] = {}
        self.num_entries = 0
        self.view_hash = 0


class Directory:
    """Exact map from chunk key to holdings, searched by longest prefix."""

    def __init__(self) -> None:
        self._masks_by_tenant: dict[str, dict[ChunkKey, int]] = {}
        self._shared_masks: dict[int, int] = {}
        self._free_positions: list[int] = []
        self._num_positions = 0
        self._swept: deque[Holding] = deque()

    @property
    def num_keys(self) -> int:
        """Distinct keys (per tenant), including those not swept yet."""
        return sum(map(len, self._masks_by_tenant.values()))

    @property
    def must_sweep(self) -> bool:
        """True if `sweep` has something to do."""
        return bool(self._swept)

    def open_holding(self) -> Holding:
        """Returns an empty holding with a bit of its own."""
        if self._free_positions:
            return Holding(self._free_positions.pop())
        self._num_positions += 1
        return Holding(self._num_positions - 1)

    def discard(self, holding: Holding) -> None:
        """Gives a holding up; its bit is used again once `sweep` has cleared it."""
        self._swept.append(holding)

    def apply(self, holding: Holding, tenant: str, kinds: bytes, keys: Sequence[ChunkKey]) -> None:
        """Applies index changes in order; each is idempotent."""
        masks = self._masks_by_tenant.setdefault(tenant, {})
        held = holding.keys_by_tenant.setdefault(tenant, set())
        shared = self._shared_masks
        bit, view_hash, num_before = holding.bit, holding.view_hash, len(held)
        for kind, key in zip(kinds, keys, strict=True):
            if kind == EVICT:
                if key in held:
                    held.remove(key)
                    view_hash -= view_hash_of(key, tenant)
                    self._clear_bit(masks, key, bit)
            elif key not in held:
                held.add(key)
                view_hash += view_hash_of(key, tenant)
                mask = masks.get(key, 0) | bit
                masks[key] = shared.setdefault(mask, mask)
        holding.view_hash = view_hash & _VIEW_HASH_MASK
        holding.num_entries += len(held) - num_before
        self._tidy(tenant, masks)

    def find_runs(self, keys: Iterable[ChunkKey], tenant: str, visible: int) -> list[Run]:
        """Returns the longest prefix of ``keys`` as runs without gaps.

        Args:
            keys: of one chain.
            tenant: whose entries count, besides those of nobody.
            visible: bits of the holdings that count.
        """
        mask_of = self._lookup(tenant)
        runs: list[Run] = []
        start = position = holders = 0
        last_mask: int | None = -1  # no key has it
        for key in keys:
            mask = mask_of(key)
            if mask is not last_mask:
                last_mask = mask
                seen = mask & visible if mask else 0
                if seen != holders or not seen:
                    if holders:
                        runs.append(Run(start, position - start, holders))
                    start, holders = position, seen
                    if not seen:
                        return runs
            position += 1
        if holders:
            runs.append(Run(start, position - start, holders))
        return runs

    def sweep(self, num_entries_max: int) -> None:
        """Clears up to so many entries of discarded holdings."""
        left = num_entries_max
        while left > 0 and self._swept:
            holding = self._swept[0]
            if not holding.keys_by_tenant:
                self._swept.popleft()
                self._free_positions.append(holding.position)
                continue
            tenant, held = next(iter(holding.keys_by_tenant.items()))
            left -= self._sweep_tenant(holding, tenant, held, left)

    def _sweep_tenant(
        self, holding: Holding, tenant: str, held: set[ChunkKey], num_max: int
    ) -> int:
        masks = self._masks_by_tenant.get(tenant, {})
        num = min(num_max, len(held))
        for _ in range(num):
            self._clear_bit(masks, held.pop(), holding.bit)
        holding.num_entries -= num
        if not held:
            del holding.keys_by_tenant[tenant]
        self._tidy(tenant, masks)
        return num

    def _lookup(self, tenant: str) -> Callable[[ChunkKey], int | None]:
        everybodys = self._masks_by_tenant.get("", {}).get
        if not tenant or tenant not in self._masks_by_tenant:
            return everybodys
        own = self._masks_by_tenant[tenant].get
        return lambda key: (everybodys(key) or 0) | (own(key) or 0)

    def _clear_bit(self, masks: dict[ChunkKey, int], key: ChunkKey, bit: int) -> None:
        mask = masks[key] & ~bit
        if mask:
            masks[key] = self._shared_masks.setdefault(mask, mask)
        else:
            del masks[key]

    def _tidy(self, tenant: str, masks: dict[ChunkKey, int]) -> None:
        if not masks:
            self._masks_by_tenant.pop(tenant, None)
        if len(self._shared_masks) > _MAX_SHARED_MASKS:
            self._shared_masks.clear()  # costs sharing with older entries, nothing else
