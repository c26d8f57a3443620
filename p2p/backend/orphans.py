"""Chunks of a fetch for which nobody is left to ask, and why. No I/O, no clock, no threads."""

from collections.abc import Set as AbstractSet

from p2p.backend.actions import ShortReason
from p2p.backend.fetch_context import FetchContext

Cause = tuple[ShortReason, str]
_NOBODY = frozenset({ShortReason.NO_HOLDER, ShortReason.DIRECTORY_PARTIAL})


class Orphans:
    """Says why chunks without a holder are not to be had.

    Args:
        context: the request.

    Attributes:
        cause: of those for which nobody in particular was named.
        standing: why holders that the directory named are not asked.
    """

    def __init__(self, context: FetchContext) -> None:
        self.cause: Cause = (ShortReason.NO_HOLDER, "no holder is known or usable")
        self.standing: dict[str, Cause] = {}
        self._context = context

    def positions(self, awaited: AbstractSet[int]) -> list[int]:
        """Returns the chunks that nobody lends, is asked for, or is known to hold.

        Args:
            awaited: chunks for which somebody was asked and has not answered.
        """
        wanted = self._context.chunks.wanted()
        return [c.position for c in wanted if not c.holders and c.position not in awaited]

    def lose(self, awaited: AbstractSet[int]) -> None:
        """Chunks for which nobody is left are not to be had."""
        for position in self.positions(awaited):
            self._context.chunks.lose(position, *self._cause_of(position))

    def _cause_of(self, position: int) -> Cause:
        """Returns why a chunk is not to be had: how we stand with a holder, if one was named.

        What went wrong in this fetch says more.
        """
        if self.cause[0] not in _NOBODY:
            return self.cause
        source = self._context.source
        named = self._context.chunks[position].named if source is None else (source.instance,)
        causes = (self.standing[name] for name in named if name in self.standing)
        return next(causes, self.cause)
