"""What snapshots have left out: chunks that an instance held before and no longer does.

Events name what was evicted; a snapshot that takes the old entries' place only lacks it. The old
entries are compared with the new ones a piece at a time, so that nothing waits for it, and go after
that. No I/O, no clock, no threads.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from p2p.directory import Directory
from p2p.holding import Holding
from p2p.keys import InstanceId, split_keys
from p2p.wire.messages import EventKind, Events
from p2p_controller.evidence import Evidence
from p2p_controller.members import Member

_EVICT = bytes([EventKind.EVICT.value])


@dataclass(slots=True)
class _Replaced:
    """Entries of a member that a snapshot has replaced.

    Attributes:
        pieces: tenant, key length and keys that have not been compared yet.
    """

    member: Member
    directory: Directory
    old: Holding
    pieces: deque[tuple[str, int, bytes]] = field(default_factory=deque)


class Losses:
    """Entries that snapshots have replaced, until they were compared.

    Args:
        evidence: where evictions are noted.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._replaced: deque[_Replaced] = deque()

    def __bool__(self) -> bool:
        return bool(self._replaced)

    def add(self, member: Member, directory: Directory, old: Holding) -> None:
        """Takes over entries that nobody sees any more."""
        if old.num_entries:
            pieces = deque(old.logged_keys())
            self._replaced.append(_Replaced(member, directory, old, pieces))
        else:
            directory.discard(old)

    def look(self, members: Mapping[InstanceId, Member], now_s: float) -> None:
        """Compares the next few thousand entries with those that took their place.

        What is gone is noted as evicted now: that is when it was learned.
        """
        if not self._replaced:
            return
        first = self._replaced[0]
        is_known = members.get(first.member.instance) is first.member
        if first.pieces and is_known:
            tenant, key_bytes, blob = first.pieces.popleft()
            lost = _lost_of(first, tenant, key_bytes, blob)
            if lost:
                self._evidence.note_snapshot(
                    first.member, _events(first.member, tenant, key_bytes, lost), now_s
                )
        if not first.pieces or not is_known:  # a member that is gone is evidence of its own
            self._replaced.popleft()
            first.directory.discard(first.old)


def _lost_of(replaced: _Replaced, tenant: str, key_bytes: int, blob: bytes) -> bytes:
    """Returns the keys of a piece that were held before the snapshot and are not held now."""
    keys = list(dict.fromkeys(split_keys(blob, key_bytes)))  # some are logged twice
    now = replaced.directory.tiers_of(replaced.member.live, tenant, keys)
    gone = [key for key, tier in zip(keys, now, strict=True) if not tier]
    before = replaced.directory.tiers_of(replaced.old, tenant, gone)
    return b"".join(key for key, tier in zip(gone, before, strict=True) if tier)


def _events(member: Member, tenant: str, key_bytes: int, blob: bytes) -> Events:
    return Events(
        instance=member.instance,
        incarnation=member.incarnation,
        epoch=0,
        first_seq=0,
        kinds=_EVICT * (len(blob) // key_bytes),
        keys=blob,
        key_bytes=key_bytes,
        tenant=tenant,
    )
