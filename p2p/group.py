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

MAX_HOLDERS = 8
AGE_STEP_S = 0.05
_MAX_CHOICES = 4096


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

    @property
    def is_returned(self) -> bool:
        """True if readers are sent there."""
        ...

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
    """

    def __init__(self) -> None:
        self.version = 1
        self.directory = Directory()
        self.members: dict[InstanceId, M] = {}
        self._readable_masks: dict[Layout | None, int] = {}
        self._member_by_position: dict[int, M] = {}
        self._ranking: Ranking[M] | None = None
        self._choices: dict[tuple[int, ...], Choices] = {}
        self._choices_until_s = 0.0

    @property
    def is_unused(self) -> bool:
        """True if nothing would be lost with this group."""
        return not self.members and not self.directory.must_sweep

    def on_holders_changed(self) -> None:
        """A member came, went, fell silent, was heard again, or its live holding has other bits."""
        self._readable_masks.clear()
        self._member_by_position.clear()
        self._ranking = None
        self._choices.clear()

    def on_members_changed(self) -> None:
        """A member came, went, fell silent or was heard again."""
        self.version += 1
        self.on_holders_changed()

    def on_heard(self, member: M) -> None:
        """A member was heard, maybe with another load."""
        self._choices.clear()
        if self._ranking is not None:
            self._ranking.put(member)

    def readable_mask(self, layout: Layout | None) -> int:
        """Returns the bits of the live holdings that an asker with this layout can read."""
        mask = self._readable_masks.get(layout)
        if mask is None:
            mask = 0
            for member in self.members.values():
                if member.is_returned and _can_read(layout, member.layout):
                    mask |= member.live.mask
            self._readable_masks[layout] = mask
        return mask

    def choose(self, masks: tuple[int, ...], now_s: float) -> Choices:
        """Returns the best holders behind the bit sets of an answer's runs.

        What was chosen is kept until a member reports, comes or goes, and for `AGE_STEP_S` at most,
        because answers say how long ago a holder was heard.
        """
        if now_s >= self._choices_until_s or len(self._choices) > _MAX_CHOICES:
            self._choices.clear()
            self._choices_until_s = now_s + AGE_STEP_S
        choices = self._choices.get(masks)
        if choices is None:
            choices = self._choices[masks] = self._choose(masks, now_s)
        return choices

    def _choose(self, masks: tuple[int, ...], now_s: float) -> Choices:
        index_by_member: dict[M, int] = {}
        by_run: list[Choice] = []
        for mask in masks:
            best = self.best_holders(mask, MAX_HOLDERS)
            indexes = tuple(index_by_member.setdefault(m, len(index_by_member)) for m in best)
            tiers = bytes(member.live.tier_of(mask) for member in best)
            by_run.append(Choice(indexes, mask.bit_count() - len(best), tiers))
        return Choices(by_run, tuple(holder_of(member, now_s) for member in index_by_member))

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


def holder_of(member: GroupMember, now_s: float) -> Holder:
    """Returns what a reader needs to know of a member."""
    registered = member.registered
    return Holder(
        instance=registered.instance,
        incarnation=registered.incarnation,
        address=registered.address,
        public_key=registered.public_key,
        host=registered.host,
        rack=registered.rack,
        load_bytes=member.load_bytes,
        age_ms=max(0, int((now_s - member.last_seen_s) * 1000)),
    )
