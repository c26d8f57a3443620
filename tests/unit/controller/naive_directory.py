"""A directory as one would write it first: plain dicts of sets, no repair, no bits.

It is told what really is (every state of every instance's index) and what the controller has
acknowledged, and says what the controller has to answer.
"""

from dataclasses import dataclass, field

from p2p.keys import ChunkKey
from p2p.layout import Layout, Refused, compare

Entry = tuple[str, ChunkKey]
State = dict[Entry, int]  # to tiers


@dataclass
class Known:
    """One start of an instance, as the controller must know it.

    Attributes:
        states: of its index, after each of its events; the first one is empty.
        acked_seq: how many of those the controller has.
        last_seen_s: when the controller last heard it.
    """

    incarnation: int
    layout: Layout
    namespace: str
    states: list[State]
    last_seen_s: float
    acked_seq: int = 0
    load_bytes: int = 0

    @property
    def entries(self) -> State:
        """What the controller has to hold for it."""
        return self.states[self.acked_seq]


@dataclass
class NaiveDirectory:
    """All members.

    Attributes:
        fences: newest incarnation of every instance that ever was here, in this epoch.
    """

    silent_after_s: float
    forget_after_s: float
    members: dict[str, Known] = field(default_factory=dict)
    fences: dict[str, int] = field(default_factory=dict)

    def restart(self) -> None:
        """Forgets everything."""
        self.members.clear()
        self.fences.clear()

    def expire(self, now_s: float) -> None:
        """Forgets who was not heard for long."""
        for name, member in list(self.members.items()):
            if now_s >= member.last_seen_s + self.forget_after_s:
                self.remove(name)

    def add(self, name: str, member: Known) -> None:
        """Takes a new start in."""
        self.members[name] = member
        self.fences[name] = member.incarnation

    def remove(self, name: str) -> None:
        """Forgets an instance, but not that its older starts may not come back."""
        self.members.pop(name, None)

    def holders(
        self, key: ChunkKey, asker: str, namespace: str, tenant: str, now_s: float
    ) -> dict[str, int]:
        """Returns who has a chunk that this asker can read, and in which tier."""
        layout = self.members[asker].layout if asker in self.members else None
        found: dict[str, int] = {}
        for name, member in self.members.items():
            tiers = [member.entries[e] for e in (("", key), (tenant, key)) if e in member.entries]
            if (
                tiers
                and member.namespace == namespace
                and now_s < member.last_seen_s + self.silent_after_s
                and not (layout and isinstance(compare(layout, member.layout), Refused))
            ):
                found[name] = min(tiers)
        return found

    def prefix(
        self, keys: list[ChunkKey], asker: str, namespace: str, tenant: str, now_s: float
    ) -> list[dict[str, int]]:
        """Returns the holders of each chunk of the longest prefix."""
        found: list[dict[str, int]] = []
        for key in keys:
            holders = self.holders(key, asker, namespace, tenant, now_s)
            if not holders:
                break
            found.append(holders)
        return found
