"""What one instance holds in one state of its feed: its bits, and a log of the keys it admitted.

Whether a key is held is said by the directory's bit sets alone. The log is there to find the keys
again when all of them have to go: every held key is in it, once or more, among some that are gone.
It costs the bytes of the keys and no hashing; when too much of it is stale it is written anew, a
piece at a time. No I/O, no clock, no threads.
"""

from collections import deque
from collections.abc import Callable, Sequence

from p2p.changes import Changes
from p2p.keys import ChunkKey, split_keys
from p2p.view_hash import VIEW_HASH_MASK

NUM_TIERS = 3  # values of an event's kind; the first one evicts and names no tier
_PIECE_KEYS = 4096
_SLACK_KEYS = 4096
_PACE = 4  # keys looked at again for each that is added


class KeyLog:
    """Keys of one tenant and one length.

    Attributes:
        num_held: keys in it that are held.
        num_logged: all of them.
    """

    __slots__ = ("_left", "_pieces", "_seen", "key_bytes", "num_held", "num_logged")

    def __init__(self, key_bytes: int) -> None:
        self.key_bytes = key_bytes
        self.num_held = 0
        self.num_logged = 0
        self._pieces: deque[bytearray] = deque()
        self._left = 0  # oldest pieces that the clean-up under way has not looked at
        self._seen: set[ChunkKey] = set()

    def add(self, blob: bytes) -> None:
        """Appends keys."""
        piece_bytes = _PIECE_KEYS * self.key_bytes
        for start in range(0, len(blob), piece_bytes):
            part = blob[start : start + piece_bytes]
            newest = self._pieces[-1] if len(self._pieces) > self._left else None
            if newest is not None and len(newest) + len(part) <= piece_bytes:
                newest += part
            else:
                self._pieces.append(bytearray(part))
        self.num_logged += len(blob) // self.key_bytes

    def copy(self) -> list[bytes]:
        """Returns all keys, in blobs of a few thousand."""
        return [bytes(piece) for piece in self._pieces]

    def take(self, num_max: int) -> Sequence[ChunkKey]:
        """Removes and returns up to so many of the oldest keys."""
        piece = self._pieces[0]
        num_bytes = num_max * self.key_bytes
        keys = split_keys(bytes(piece[:num_bytes]), self.key_bytes)
        del piece[:num_bytes]
        if not piece:
            self._pieces.popleft()
        self.num_logged -= len(keys)
        return keys

    def clean(self, num_added: int, is_held: Callable[[ChunkKey], bool]) -> None:
        """Goes on dropping stale keys, a few for each that was added, if there are many.

        Args:
            num_added: keys added since the last call.
            is_held: tells whether a key is held now.
        """
        budget = _PACE * num_added
        if not self._left and self.num_logged > 2 * self.num_held + _SLACK_KEYS:
            self._left = len(self._pieces)
        while self._left and budget > 0:
            piece = self._pieces.popleft()
            self._left -= 1
            keys = split_keys(bytes(piece), self.key_bytes)
            kept = [key for key in dict.fromkeys(keys) if is_held(key) and key not in self._seen]
            self._seen.update(kept)
            self.num_logged -= len(keys)
            self.add(b"".join(kept))
            budget -= len(keys)
        if not self._left and self._seen:
            self._seen = set()


class Holding:
    """The entries of one instance in one state of its feed, with a bit for each tier in use.

    Attributes:
        bits: by tier; 0 where none is in use, and for the kind that evicts.
        mask: all of them.
        num_entries: how much is held.
        view_hash: of all entries, see `p2p.view_hash`.
        logs: of the keys by tenant and length.
    """

    __slots__ = ("bits", "logs", "mask", "num_entries", "view_hash")

    def __init__(self) -> None:
        self.bits = [0] * NUM_TIERS
        self.mask = 0
        self.num_entries = 0
        self.view_hash = 0
        self.logs: dict[tuple[str, int], KeyLog] = {}

    def logged_keys(self) -> list[tuple[str, int, bytes]]:
        """Returns tenant, key length and blob for every few thousand keys; some may be gone."""
        return [
            (tenant, key_bytes, blob)
            for (tenant, key_bytes), log in self.logs.items()
            for blob in log.copy()
        ]

    def log_of(self, tenant: str, key_bytes: int) -> KeyLog:
        """Returns the log for these keys."""
        log = self.logs.get((tenant, key_bytes))
        if log is None:
            log = self.logs[tenant, key_bytes] = KeyLog(key_bytes)
        return log

    def tier_of(self, mask: int) -> int:
        """Returns the nearest tier that a bit set names, 0 if it names none."""
        return next((tier for tier, bit in enumerate(self.bits) if bit & mask), 0)

    def note_added(self, changes: Changes, numbers: Sequence[int], tier: int) -> None:
        """Counts and logs changes that added an entry in a tier."""
        if not numbers:
            return
        self.num_entries += len(numbers)
        self.view_hash = (self.view_hash + changes.hash_of(numbers, tier)) & VIEW_HASH_MASK
        log = self.log_of(changes.tenant, changes.key_bytes)
        log.num_held += len(numbers)
        log.add(changes.blob_of(numbers))

    def note_removed(self, changes: Changes, numbers: Sequence[int], tier: int) -> None:
        """Counts changes that removed an entry from a tier."""
        if not numbers:
            return
        self.num_entries -= len(numbers)
        self.view_hash = (self.view_hash - changes.hash_of(numbers, tier)) & VIEW_HASH_MASK
        self.log_of(changes.tenant, changes.key_bytes).num_held -= len(numbers)
