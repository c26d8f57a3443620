"""Who holds which chunk, within one namespace. No I/O, no clock, no threads.

A chunk key maps to a bit set: each holding has a bit for every tier that it uses. A holding is what
one instance holds in one state of its feed: a snapshot is taken into a holding of its own, which
nobody sees until it is complete, and what is not seen any more is swept a piece at a time. So
neither a snapshot nor the loss of an instance stops the world. Entries of each tenant are a map of
their own. An entry is in one tier; admitting it to another one moves it.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from p2p.changes import EVICT, Changes
from p2p.holding import Holding
from p2p.key_map import KeyMap, Span, spans_of
from p2p.keys import Chain, ChunkKey, split_keys

_MAX_SHARED_MASKS = 1 << 14
_BLOCK_KEYS = 128
_FIRST_POSITION = 9  # integers up to 256 are shared by Python: they tell nothing by identity

_NOTHING = KeyMap()


class Run(NamedTuple):
    """Consecutive chunks with the same visible holdings and tiers, whose bits are ``mask``."""

    start: int
    num_chunks: int
    mask: int


class Directory:
    """Exact map from chunk key to holdings, searched by longest prefix."""

    def __init__(self) -> None:
        self._masks_by_tenant: dict[str, KeyMap] = {}
        self._shared_masks: dict[int, int] = {}
        self._free_positions: list[int] = []
        self._num_positions = _FIRST_POSITION
        self._several_tiers: list[Holding] = []
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
        """Returns an empty holding; it gets bits of its own as it uses tiers."""
        return Holding()

    def discard(self, holding: Holding) -> None:
        """Gives a holding up; its bits are used again once `sweep` has cleared them."""
        self._swept.append(holding)

    def entries_of(self, holding: Holding) -> Iterator[tuple[str, ChunkKey, int]]:
        """Returns tenant, key and tier of all that is held. Looks at every key there is."""
        for tenant, masks in self._masks_by_tenant.items():
            for key, mask in masks.items():
                if mask & holding.mask:
                    yield tenant, key, holding.tier_of(mask)

    def tiers_of(self, holding: Holding, tenant: str, keys: Sequence[ChunkKey]) -> list[int]:
        """Returns the tier in which each key is held, 0 for those that are not."""
        masks = self._masks_by_tenant.get(tenant, _NOTHING)
        return list(map(holding.tier_of, masks.get_each(keys)))

    def masks_of(self, key: ChunkKey) -> dict[str, int]:
        """Returns the bits of all who hold a key, by tenant; for people's questions."""
        found = {tenant: masks.get(key) for tenant, masks in self._masks_by_tenant.items()}
        return {tenant: mask for tenant, mask in found.items() if mask}

    def apply(self, holding: Holding, changes: Changes) -> None:
        """Applies index changes in order; each is idempotent."""
        if not changes.kinds:
            return
        for tier in set(changes.kinds) - {EVICT}:
            self._use_tier(holding, tier)
        masks = self._masks_by_tenant.get(changes.tenant)
        if masks is None:
            masks = self._masks_by_tenant[changes.tenant] = KeyMap()
        masks.make_room(len(changes.keys))
        if not self._admit_new(holding, changes, masks):
            self._change(holding, changes, masks)
        log = holding.log_of(changes.tenant, changes.key_bytes)
        log.clean(len(changes.keys), lambda key: bool(masks.get(key) & holding.mask))
        self._tidy(changes.tenant, masks)

    def find_runs(self, chain: Chain, tenant: str, visible: int) -> list[Run]:
        """Returns the longest prefix of a chain as runs without gaps.

        Args:
            chain: its keys.
            tenant: whose entries count, besides those of nobody.
            visible: bits of the holdings that count.
        """
        if tenant and tenant in self._masks_by_tenant:
            return _runs_of(self._spans_of_two(chain, tenant), visible)
        return _runs_of(self._masks_by_tenant.get("", _NOTHING).spans(chain), visible)

    def sweep(self, num_entries_max: int) -> None:
        """Clears up to so many entries of discarded holdings."""
        left = num_entries_max
        while left > 0 and self._swept:
            holding = self._swept[0]
            if not holding.logs:
                self._swept.popleft()
                self._free(holding)
                continue
            (tenant, key_bytes), log = next(iter(holding.logs.items()))
            if not log.num_logged:
                del holding.logs[tenant, key_bytes]
                continue
            keys = log.take(left)
            left -= len(keys)
            self._sweep_keys(holding, tenant, keys)

    # ------------------------------------------------------------------ changes

    def _admit_new(self, holding: Holding, changes: Changes, masks: KeyMap) -> bool:
        """Applies changes that only admit, all to one tier, what nobody holds; else False."""
        tier = changes.only_tier
        if tier == EVICT:
            return False
        mask = holding.bits[tier] + 0  # an object of its own
        is_new = masks.put_new(changes.keys, changes.blob, mask)
        if is_new:
            holding.note_added(changes, range(len(changes.keys)), tier)
        return is_new

    def _change(self, holding: Holding, changes: Changes, masks: KeyMap) -> None:
        shared, bits, not_ours = self._shared_masks, holding.bits, ~holding.mask
        added: list[list[int]] = [[] for _ in bits]
        removed: list[list[int]] = [[] for _ in bits]
        num_new = 0
        find = masks.volume_finder(changes.keys)
        cut, in_a_row = masks.stretches.cut, masks.stretches.blob_by_id
        each = zip(changes.kinds, changes.keys, map(find, changes.keys), strict=True)
        for number, (kind, key, volume) in enumerate(each):  # in turn: a key may come twice
            old = volume.get(key, 0)
            new = old & not_ours | bits[kind]
            if new == old:
                continue
            if id(old) in in_a_row:
                cut(old, key)
            if new:
                volume[key] = shared.setdefault(new, new)
                num_new += not old
            else:
                del volume[key]
            if old & holding.mask:
                removed[holding.tier_of(old)].append(number)
            if kind != EVICT:
                added[kind].append(number)
        masks.note_put(num_new)
        for tier in range(1, len(bits)):
            holding.note_removed(changes, removed[tier], tier)
            holding.note_added(changes, added[tier], tier)
            masks.share(changes.keys_of(added[tier]), changes.blob_of(added[tier]))

    # ------------------------------------------------------------------ parts

    def _spans_of_two(self, chain: Chain, tenant: str) -> Iterator[Span]:
        """Yields what a tenant and everybody may read; who holds a key twice is counted once."""
        everybodys = self._masks_by_tenant.get("", _NOTHING).get_each
        own = self._masks_by_tenant[tenant].get_each
        blob, key_bytes = chain
        block_bytes = _BLOCK_KEYS * key_bytes
        for start in range(0, len(blob), block_bytes):
            keys = split_keys(blob[start : start + block_bytes], key_bytes)
            pairs = zip(own(keys), everybodys(keys), strict=True)
            yield from spans_of([self._one_tier_each(a | b) for a, b in pairs])

    def _one_tier_each(self, mask: int) -> int:
        """Leaves the nearest tier of every holding: entries of two tenants may be in two tiers."""
        for holding in self._several_tiers:
            if (mask & holding.mask).bit_count() > 1:
                mask = mask & ~holding.mask | holding.bits[holding.tier_of(mask)]
        return mask

    def _use_tier(self, holding: Holding, tier: int) -> None:
        if holding.bits[tier]:
            return
        if self._free_positions:
            position = self._free_positions.pop()
        else:
            position = self._num_positions
            self._num_positions += 1
        if holding.mask:
            self._several_tiers = [*(set(self._several_tiers) - {holding}), holding]
        holding.bits[tier] = 1 << position
        holding.mask |= 1 << position

    def _free(self, holding: Holding) -> None:
        self._free_positions.extend(bit.bit_length() - 1 for bit in holding.bits if bit)
        if holding in self._several_tiers:
            self._several_tiers.remove(holding)

    def _sweep_keys(self, holding: Holding, tenant: str, keys: Sequence[ChunkKey]) -> None:
        masks = self._masks_by_tenant.get(tenant, _NOTHING)
        shared, not_ours, num_left = self._shared_masks, ~holding.mask, 0
        cut, in_a_row = masks.stretches.cut, masks.stretches.blob_by_id
        for key, volume in zip(keys, map(masks.volume_finder(keys), keys), strict=True):
            old = volume.get(key, 0)
            new = old & not_ours
            if new == old:
                continue
            if id(old) in in_a_row:
                cut(old, key)
            if new:
                volume[key] = shared.setdefault(new, new)
                num_left += 1
            else:
                del volume[key]
        if num_left:
            masks.share(keys, b"".join(keys))
        self._tidy(tenant, masks)

    def _tidy(self, tenant: str, masks: KeyMap) -> None:
        if not masks:
            self._masks_by_tenant.pop(tenant, None)
        if len(self._shared_masks) > _MAX_SHARED_MASKS:
            self._shared_masks.clear()  # costs sharing with older entries, nothing else


def _runs_of(spans: Iterable[Span], visible: int) -> list[Run]:
    """Returns the visible part of what was found, up to the first key that nobody holds."""
    runs: list[Run] = []
    for mask, count in spans:
        seen = mask & visible if mask else 0
        if not seen:
            break
        if not runs:
            runs.append(Run(0, count, seen))
            continue
        start, num_chunks, last = runs[-1]
        if last == seen:
            runs[-1] = Run(start, num_chunks + count, seen)
        else:
            runs.append(Run(start + num_chunks, count, seen))
    return runs
