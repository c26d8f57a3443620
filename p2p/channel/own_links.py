"""The links of one channel whose given-up transfers quiesce link by link."""

from collections.abc import Iterator, Sized
from typing import Generic, Protocol, TypeVar


class OwnLink(Protocol):
    """What is asked of a link to keep it."""

    peer: str

    def given_up(self) -> Sized:
        """Returns the given-up transfers that have not quiesced."""
        ...

    def fence(self, reason: str) -> None:
        """Returns once none of them can touch memory any more."""
        ...

    def close(self) -> None:
        """Ends the link. Idempotent."""
        ...


L = TypeVar("L", bound=OwnLink)


class OwnLinks(Generic[L]):
    """One link for each peer, and earlier ones for as long as something of theirs is under way."""

    def __init__(self) -> None:
        self._link_by_peer: dict[str, L] = {}
        self._retired: list[L] = []

    def __iter__(self) -> Iterator[L]:
        return iter([*self._link_by_peer.values(), *self._retired])

    def retire(self, peer: str) -> None:
        """Closes the link to a peer, if there is one: another takes its place."""
        earlier = self._link_by_peer.pop(peer, None)
        if earlier is not None:
            earlier.close()
            self._retired.append(earlier)
        self._sweep()

    def keep(self, link: L) -> None:
        """Takes a new link; the earlier one to its peer was retired."""
        self._link_by_peer[link.peer] = link

    def quarantined(self) -> int:
        """Returns how many given-up transfers have not quiesced."""
        count = sum(len(link.given_up()) for link in self)
        self._sweep()
        return count

    def fence(self, peer: str) -> None:
        """Returns once nothing that was given up with a peer can touch memory any more."""
        for link in self:
            if link.peer == peer:
                link.fence(f"the link was ended to fence {peer}")
        self._sweep()

    def clear(self) -> None:
        """Forgets all links, which the caller has closed."""
        self._link_by_peer.clear()
        self._retired.clear()

    def _sweep(self) -> None:
        self._retired = [link for link in self._retired if link.given_up()]
