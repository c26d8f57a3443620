"""The members of the namespace, as the controller last listed them, and who left since.

No I/O, no clock, no threads.
"""

from dataclasses import dataclass

from p2p.wire.messages import FeedStatus, Holder, PeerList


@dataclass(frozen=True, slots=True)
class Gone:
    """A member that is not heard any more, or not at this start.

    Attributes:
        instance: its id.
        incarnation: the start that ended.
        is_restarted: another start has taken its place.
    """

    instance: str
    incarnation: int
    is_restarted: bool


class Roster:
    """The last list of members, with an age limit.

    Args:
        age_s: a list that the controller has not confirmed for so long is useless.
        retry_s: an unanswered question is repeated after this.
    """

    def __init__(self, age_s: float, retry_s: float) -> None:
        self._age_s = age_s
        self._retry_s = retry_s
        self._members: tuple[Holder, ...] = ()
        self._confirmed_s = float("-inf")
        self._version: tuple[int, int] | None = None
        self._wanted: tuple[int, int] | None = None
        self._asked_s = float("-inf")
        self._gone: list[Gone] = []

    @property
    def version(self) -> tuple[int, int] | None:
        """Epoch and number of the list; None before there is one."""
        return self._version

    def known(self, now_s: float) -> tuple[Holder, ...]:
        """Returns the members of the last list, unless it is too old to be of use."""
        return self._members if now_s <= self._confirmed_s + self._age_s else ()

    def find(self, instance: str, now_s: float) -> Holder | None:
        """Returns a member by its id."""
        return next((peer for peer in self.known(now_s) if peer.instance == instance), None)

    def take_gone(self) -> list[Gone]:
        """Returns the members that left the list since the last call."""
        gone, self._gone = self._gone, []
        return gone

    def ask(self, now_s: float) -> bool:
        """Returns true if the list must be asked for now; that then counts as done."""
        is_new = self._wanted is not None and self._wanted != self._version
        if not is_new or now_s < self._asked_s + self._retry_s:
            return False
        self._asked_s = now_s
        return True

    def on_status(self, status: FeedStatus, now_s: float) -> None:
        """The controller is alive; it tells which list is the newest."""
        if self._members:
            self._confirmed_s = now_s
        if status.peers:
            self._wanted = (status.epoch, status.peers)

    def take(self, message: PeerList, now_s: float) -> None:
        """Keeps a list of the controller's current epoch, and notes whom it names no more."""
        known = self._version
        if known is not None and known[0] == message.epoch:
            if message.version < known[1]:
                return  # of a moment before the one that is known
            left = {peer.instance: peer.incarnation for peer in self._members}
            for peer in message.peers:
                if left.get(peer.instance, peer.incarnation) >= peer.incarnation:
                    left.pop(peer.instance, None)
            here = {peer.instance for peer in message.peers}
            self._gone += [Gone(name, number, name in here) for name, number in left.items()]
        self._members = message.peers
        self._confirmed_s = now_s
        self._version = (message.epoch, message.version)
