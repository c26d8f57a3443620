"""The instances of one namespace and their directory: who may be read by whom, and who is best.

No I/O, no clock. What is derived from the members is rebuilt when it is asked for after a change.
"""

from typing import Generic, NamedTuple, Protocol, TypeVar

from p2p.directory import Directory
from p2p.holding import Holding
from p2p.keys import InstanceId
from p2p.layout import Layout, Refused, compare
from p2p.ranking import Ranking
from p2p.wire.messages import Holder, Register


class Choice(NamedTuple):
    """The best holders of one run.

    Attributes:
        indexes: of the holders in the answer's list.
        more: how many others there are.
        tiers: of each holder.
    """

    indexes: tuple[int, ...]
    more: int
    tiers: bytes


class Choices(NamedTuple):
    """The choice for each run of an answer, and the holders that they name, each listed once."""

    by_run: list[Choice]
    holders: tuple[Holder, ...]


class GroupMember(Protocol):
    """What is asked of a member: its entries, and what decides whether and when it is named."""

    load_bytes: int
    last_seen_s: float
    is_silent: bool

    @property
    def registered(self) -> Register | Holder:
        """What it says of itself."""
        ...

    @property
    def instance(self) -> InstanceId:
        """Its id."""
        ...

    @property
    def layout(self) -> Layout:
        """How it keeps KV."""
        ...

    @property
    def live(self) -> Holding:
        """Its entries."""
        ...


M = TypeVar("M", bound=GroupMember)


class Group(Generic[M]):
    """Everything about one namespace.

    Attributes:
        directory: who holds what.
        members: by instance.
        version: grows when a member comes, goes, falls silent or is heard again.
        choices: holders chosen for the bit sets of an answer's runs, to be used for a moment.
        choices_until_s: when that moment ends.
    """

    def __init__(self) -> None:
        self.version = 1
        self.directory = Directory()
        self.members: dict[InstanceId, M] = {}
        self._readable_masks: dict[Layout | None, int] = {}
        self._member_by_position: dict[int, M] = {}
        self._ranking: Ranking[M] | None = None
        self.choices: dict[tuple[int, ...], Choices] = {}
        self.choices_until_s = 0.0

    @property
    def is_unused(self) -> bool:
        """True if nothing would be lost with this group."""
        return not self.members and not self.directory.must_sweep

    def on_holders_changed(self) -> None:
        """A member came, went, fell silent, was heard again, or its live holding has other bits."""
        self._readable_masks.clear()
        self._member_by_position.clear()
        self.on_loads_changed()

    def on_members_changed(self) -> None:
        """A member came, went, fell silent or was heard again."""
        self.version += 1
        self.on_holders_changed()

    def on_loads_changed(self) -> None:
        """Members reported their loads."""
        self._ranking = None
        self.choices.clear()

    def on_heard(self, member: M) -> None:
        """A member was heard, maybe with another load."""
        self.choices.clear()
        if self._ranking is not None:
            self._ranking.put(member)

    def readable_mask(self, layout: Layout | None) -> int:
        """Returns the bits of the live holdings that an asker with this layout can read."""
        mask = self._readable_masks.get(layout)
        if mask is None:
            mask = 0
            for member in self.members.values():
                if not member.is_silent and _can_read(layout, member.layout):
                    mask |= member.live.mask
            self._readable_masks[layout] = mask
        return mask

    def best_holders(self, mask: int, num_max: int) -> list[M]:
        """Returns the members behind a bit set: least loaded first, then the last heard."""
        if self._ranking is None:
            self._ranking = Ranking(self.members.values())
        count = mask.bit_count()
        if count <= num_max or count * count <= 2 * len(self.members):  # fewer steps than below
            return self._ranking.sort(self._members_of(mask))[:num_max]
        best: list[M] = []
        for member in self._ranking:
            if member.live.mask & mask:
                best.append(member)
                if len(best) == num_max:
                    break
        return best

    def _members_of(self, mask: int) -> list[M]:
        if not self._member_by_position:
            self._member_by_position = {
                bit.bit_length() - 1: member
                for member in self.members.values()
                for bit in member.live.bits
                if bit
            }
        found = []
        while mask:
            lowest = mask & -mask
            found.append(self._member_by_position[lowest.bit_length() - 1])
            mask ^= lowest
        return found


def _can_read(reader: Layout | None, holder: Layout) -> bool:
    return reader is None or not isinstance(compare(reader, holder), Refused)
