"""Which chunks a fetch into a paged cache has to bring. Pure."""

from dataclasses import dataclass

import numpy as np

from p2p.backend.blocks import BlockRows
from p2p.backend.results import FetchRequest
from p2p.kernels import SKIP_BLOCK


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be brought.

    Attributes:
        rows: (C, N) the blocks of all chunks that were asked for.
        first: the first chunk of which a block is wanted.
        request: for the chunks from there to the last of which one is.
    """

    rows: BlockRows
    first: int
    request: FetchRequest

    @property
    def is_nothing(self) -> bool:
        """True if no block is wanted."""
        return not self.request.keys


def wanted_of(request: FetchRequest, rows: BlockRows) -> Wanted:
    """Returns what is wanted, without the chunks at either end of which no block is."""
    wanted = np.flatnonzero((rows != SKIP_BLOCK).any(axis=1))
    first, behind = (int(wanted[0]), int(wanted[-1]) + 1) if wanted.size else (len(rows),) * 2
    return Wanted(rows, first, request.of_keys(request.keys[first:behind]))
