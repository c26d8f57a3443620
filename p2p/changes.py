"""A batch of index changes: its keys, and what some of them add to a view hash. No I/O."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from p2p.keys import split_keys
from p2p.view_hash import view_hash_of, view_hashes

if TYPE_CHECKING:
    from p2p.keys import ChunkKey

EVICT = 0  # a kind's value on the wire; every other kind admits, and is the tier
_FEW_KEYS = 16


class Changes:
    """Changes of one tenant, with keys of one length.

    Args:
        tenant: of the entries.
        kinds: one byte a change.
        blob: one key a change.
        key_bytes: length of each.

    Attributes:
        keys: those of the blob.
    """

    __slots__ = ("blob", "key_bytes", "keys", "kinds", "tenant")

    def __init__(self, tenant: str, kinds: bytes, blob: bytes, key_bytes: int) -> None:
        self.tenant = tenant
        self.kinds = kinds
        self.blob = blob
        self.key_bytes = key_bytes
        self.keys: Sequence[ChunkKey] = split_keys(blob, key_bytes)

    @property
    def only_tier(self) -> int:
        """The tier that all changes admit to; 0 if they are not all of one kind, or evict."""
        first = self.kinds[0]
        return first if self.kinds.count(first) == len(self.kinds) else EVICT

    def keys_of(self, numbers: Sequence[int]) -> Sequence["ChunkKey"]:
        """Returns the keys of some changes."""
        if len(numbers) == len(self.keys):
            return self.keys
        return [self.keys[number] for number in numbers]

    def blob_of(self, numbers: Sequence[int]) -> bytes:
        """Returns the keys of some changes as a blob."""
        if len(numbers) == len(self.keys):
            return self.blob
        return b"".join(self.keys_of(numbers))

    def hash_of(self, numbers: Sequence[int], tier: int) -> int:
        """Returns what the keys of some changes add to a view hash if they are in a tier."""
        if len(numbers) <= _FEW_KEYS:
            return sum(view_hash_of(self.keys[n], self.tenant, tier) for n in numbers)
        blob = self.blob_of(numbers)
        return int(view_hashes(blob, self.key_bytes, self.tenant, tier).sum())
