"""What the outside is told of the pool: chunks that came and went, each described by a request.

A chunk may be in the pool before a request that knows its tokens was seen, or the other way round;
it is told when both are so, once, and its removal only if it was told. Pure.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

from p2p.backend.feed import Event
from p2p.keys import ChunkKey
from p2p.wire.messages import EventKind

_MAX_DESCRIBED = 1 << 13  # chunks that never came: saves that were dropped, requests that ended
Description = TypeVar("Description")


class News(NamedTuple, Generic[Description]):
    """One chunk came or went.

    Attributes:
        is_stored: it came.
        description: of the chunk.
    """

    is_stored: bool
    description: Description


class Announcements(Generic[Description]):
    """Puts together what is in the pool and what that is.

    Args:
        max_described: descriptions beyond this that no chunk was told with are forgotten.
    """

    def __init__(self, max_described: int = _MAX_DESCRIBED) -> None:
        self._max_described = max_described
        self._described: OrderedDict[ChunkKey, Description] = OrderedDict()
        self._told: dict[ChunkKey, Description] = {}
        self._untold: set[ChunkKey] = set()
        self._news: list[News[Description]] = []

    def is_described(self, key: ChunkKey) -> bool:
        """Whether a description is here already."""
        return key in self._told or key in self._described

    def describe(self, key: ChunkKey, description: Description) -> None:
        """A request knows what a chunk is, whether it is here or not."""
        if key in self._told:
            return
        if key in self._untold:
            self._tell(key, description)
            return
        self._described[key] = description
        if len(self._described) > self._max_described:
            self._described.popitem(last=False)

    def note(self, events: Iterable[Event]) -> None:
        """Takes what has changed in the pool."""
        for event in events:
            if event.kind is EventKind.EVICT:
                self._gone(event.key)
            elif event.key not in self._told:
                self._untold.add(event.key)
                if (description := self._described.pop(event.key, None)) is not None:
                    self._tell(event.key, description)

    def take(self) -> list[News[Description]]:
        """Returns what there is to tell, in order, once."""
        news, self._news = self._news, []
        return news

    def _tell(self, key: ChunkKey, description: Description) -> None:
        self._untold.discard(key)
        self._told[key] = description
        self._news.append(News(True, description))  # noqa: FBT003 - the field has a name

    def _gone(self, key: ChunkKey) -> None:
        self._untold.discard(key)
        if (description := self._told.pop(key, None)) is not None:
            self._news.append(News(False, description))  # noqa: FBT003 - the field has a name
