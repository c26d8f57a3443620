"""Members: one per registered instance, and what is known of its liveness. No I/O, no clock."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from p2p.holding import Holding
from p2p.keys import InstanceId, NamespaceId
from p2p.layout import Layout
from p2p.wire.messages import Order, Register
from p2p_controller.feed import Feed

_MAX_FENCES = 4096


@dataclass(frozen=True, slots=True)
class Given:
    """An order that a member was given.

    Attributes:
        deadline_s: whoever asked for it is answered by then.
    """

    order: Order
    deadline_s: float


@dataclass(slots=True, eq=False)
class Member:
    """One registered instance.

    Attributes:
        number: no other registration of this epoch has it.
        registered: what it said of itself.
        namespace_id: of its namespace.
        feed: its index changes, and with them its entries.
        last_seen_s: when it was last heard.
        load_bytes: what it lends, by its last heartbeat.
        is_silent: it was not heard for too long and is not returned.
        orders: given and not yet reported done, oldest first.
        num_pinned: chunks that operators keep there, by its last heartbeat.
        is_leaving: it has asked not to be returned any more.
    """

    number: int
    registered: Register
    namespace_id: NamespaceId
    feed: Feed
    last_seen_s: float
    load_bytes: int = 0
    is_silent: bool = False
    orders: dict[int, Given] = field(default_factory=dict)
    num_pinned: int = 0
    is_leaving: bool = False

    @property
    def instance(self) -> InstanceId:
        """Its id."""
        return InstanceId(self.registered.instance)

    @property
    def live(self) -> Holding:
        """Its entries that are looked up."""
        return self.feed.live

    @property
    def is_returned(self) -> bool:
        """True if readers are sent there."""
        return not self.is_silent and not self.is_leaving

    @property
    def incarnation(self) -> int:
        """Its start."""
        return self.registered.incarnation

    @property
    def layout(self) -> Layout:
        """How it keeps KV."""
        return self.registered.layout


class Members:
    """All members, and the incarnations that may not come back.

    Args:
        silent_after_s: a member that was not heard for so long is silent.
        forget_after_s: after so long it is to be forgotten.
        counters: of everything unusual.
    """

    def __init__(
        self, silent_after_s: float, forget_after_s: float, counters: Counter[str]
    ) -> None:
        self.by_id: dict[InstanceId, Member] = {}
        self._silent_after_s = silent_after_s
        self._forget_after_s = forget_after_s
        self._counters = counters
        self._newest_gone: dict[str, int] = {}  # bounded; the oldest is dropped
        self._next_check_s = float("-inf")

    def add(self, member: Member) -> None:
        """Takes in a new member, or a new state of one."""
        self.by_id[member.instance] = member
        self._next_check_s = float("-inf")

    def remove(self, member: Member) -> None:
        """Removes a member; from now on older incarnations of it are refused."""
        del self.by_id[member.instance]
        self._newest_gone.pop(member.instance, None)
        self._newest_gone[member.instance] = member.incarnation
        if len(self._newest_gone) > _MAX_FENCES:
            del self._newest_gone[next(iter(self._newest_gone))]

    def newest_incarnation(self, instance: str) -> int:
        """Returns the newest incarnation that was seen of an instance, or -1."""
        member = self.by_id.get(InstanceId(instance))
        return self._newest_gone.get(instance, -1) if member is None else member.incarnation

    def next_deadline_s(self) -> float:
        """Returns when `expire` may next have something to do."""
        return self._next_check_s

    def expire(self, now_s: float) -> tuple[list[Member], list[Member]]:
        """Returns who has just fallen silent, and who is to be forgotten."""
        if now_s < self._next_check_s:
            return [], []
        silent = [m for m in self.by_id.values() if not m.is_silent and self._is_silent(m, now_s)]
        for member in silent:
            member.is_silent = True
            self._counters["instances_silent"] += 1
        forgotten = [m for m in self.by_id.values() if now_s >= self._forget_at_s(m)]
        self._counters.update({"instances_forgotten": len(forgotten)} if forgotten else {})
        self._next_check_s = min(map(self._next_at_s, self.by_id.values()), default=float("inf"))
        return silent, forgotten

    def touch(self, member: Member, now_s: float) -> bool:
        """Notes a sign of life; returns True if the member was silent until now."""
        member.last_seen_s = max(member.last_seen_s, now_s)
        was_silent, member.is_silent = member.is_silent, False
        if was_silent:
            self._counters["instances_returned"] += 1
            self._next_check_s = float("-inf")
        return was_silent

    def alive(self) -> Iterable[Member]:
        """Returns the members that are not silent."""
        return (member for member in self.by_id.values() if not member.is_silent)

    def _is_silent(self, member: Member, now_s: float) -> bool:
        return now_s >= member.last_seen_s + self._silent_after_s

    def _forget_at_s(self, member: Member) -> float:
        return member.last_seen_s + self._forget_after_s

    def _next_at_s(self, member: Member) -> float:
        if member.is_silent:
            return self._forget_at_s(member)
        return member.last_seen_s + self._silent_after_s
