"""Copies of members' entries, a page at a time, for those who begin to follow. No I/O, no clock.

A copy is the member's keys at one moment; whether each is held, and where, is looked up when its
page is made, so nothing stands still meanwhile. Changes since that moment go on top.
"""

from dataclasses import dataclass

from p2p.directory import Directory
from p2p.holding import Holding
from p2p.keys import InstanceId, split_keys

_MAX_COPIES = 16


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries."""

    tenant: str
    kinds: bytes
    keys: bytes
    key_bytes: int


@dataclass(slots=True, eq=False)
class _Copy:
    start: int
    holding: Holding
    parts: list[tuple[str, int, bytes]]


class Copies:
    """The copies under way of one namespace, one for each instance that takes one."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._by_asker: dict[InstanceId, _Copy] = {}  # the last used one is the last

    def __len__(self) -> int:
        return len(self._by_asker)

    def end(self, asker: InstanceId) -> None:
        """An instance has all pages, or will not ask for more."""
        self._by_asker.pop(asker, None)

    def start_of(self, asker: InstanceId, holding: Holding, start: int, now: int) -> int:
        """Returns the position at which an instance's copy began, which may be a new one.

        Args:
            asker: who takes the copy.
            holding: the entries that are copied.
            start: of the copy that is asked for, 0 for a new one.
            now: the position of the last change.
        """
        copy = self._by_asker.pop(asker, None)
        if copy is None or copy.start != start or copy.holding is not holding:
            copy = _Copy(now, holding, holding.logged_keys())
        self._by_asker[asker] = copy
        if len(self._by_asker) > _MAX_COPIES:
            self.end(next(iter(self._by_asker)))
        return copy.start

    def page(self, asker: InstanceId, page: int) -> tuple[Page, bool]:
        """Returns a page of a copy that `start_of` named, and whether it is the last one."""
        copy = self._by_asker[asker]
        if page >= len(copy.parts):
            return Page("", b"", b"", 32), True
        tenant, key_bytes, blob = copy.parts[page]
        keys = split_keys(blob, key_bytes)
        tiers = self._directory.tiers_of(copy.holding, tenant, keys)
        held = [(key, tier) for key, tier in zip(keys, tiers, strict=True) if tier]
        kinds, kept = bytes(tier for _, tier in held), b"".join(key for key, _ in held)
        return Page(tenant, kinds, kept, key_bytes), page + 1 == len(copy.parts)
