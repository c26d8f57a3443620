"""One fetch's way to its surroundings. No I/O, no clock, no threads."""

from typing import TYPE_CHECKING

from p2p.backend.actions import Action, Phase, ReadId, Tag
from p2p.backend.fetch import Fetch
from p2p.backend.handshake import PeerBook
from p2p.backend.instance import InstanceCore
from p2p.wire.messages import Holder, Locate, Message

if TYPE_CHECKING:
    from p2p.backend.reader import ReaderCore


class ReaderDesk:
    """What a fetch asks for here comes back to it; implements `fetch_context.Desk`."""

    def __init__(self, reader: "ReaderCore") -> None:
        self._reader = reader
        self.fetch: Fetch | None = None

    @property
    def instance(self) -> InstanceCore:
        """The instance whose pool is filled."""
        return self._reader.instance

    @property
    def book(self) -> PeerBook:
        """How we stand with holders."""
        return self._reader.book

    def emit(self, action: Action) -> None:
        """Asks the shell for something."""
        self._reader.emit(action)

    def ask(self, holder: Holder, message: Message, now_s: float) -> Tag:
        """Sends a request to a holder, after a hello where that is due."""
        return self._reader.ask(self._owner(), holder, message, now_s)

    def down(self, instance: str, reason: str, now_s: float) -> None:
        """A holder does not work: every fetch is told."""
        self._reader.down(instance, reason, now_s)

    def ask_controller(self, question: Locate) -> None:
        """Sends the fetch's question to the directory."""
        self._reader.ask_controller(self._owner(), question)

    def give_back(self, holder: Holder, token: int) -> None:
        """Releases a lease at its holder, without waiting for an answer."""
        self._reader.give_back(holder, token)

    def next_read(self) -> ReadId:
        """Returns a fresh read id whose outcome comes back to the fetch."""
        return self._reader.next_read(self._owner())

    def on_phase(self, phase: Phase) -> None:
        """The fetch reached a phase."""
        if self.fetch is not None:
            self._reader.note_phase(self.fetch, phase)

    def _owner(self) -> Fetch:
        if self.fetch is None:
            raise AssertionError("the desk has no fetch yet")
        return self.fetch
