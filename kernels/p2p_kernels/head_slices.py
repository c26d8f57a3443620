"""Head slices: what a rank takes from each of its counterparts where tensor-parallel sizes differ.

Pure, from two layouts. A slice is one plan: pages of the reader, chunk of the counterpart.
"""

from typing import NamedTuple

from p2p.layout import Layout, counterparts
from p2p_kernels.specs import HeadRange


class HeadSlice(NamedTuple):
    """Some heads of one counterpart.

    Attributes:
        rank: which rank of the other instance keeps them.
        heads: where they are in our paged cache and in that rank's chunk.
    """

    rank: int
    heads: HeadRange


def head_slices(ours: Layout, theirs: Layout, rank: int) -> tuple[HeadSlice, ...]:
    """Returns what rank ``rank`` of ``ours`` takes from ranks of ``theirs``, in order of heads.

    Together the slices are all heads of the rank, each once. Of ranks that keep the same heads
    one is chosen, and readers spread over them (see `counterparts`).

    Raises:
        ArgumentError: there is no such rank, a layout's heads cannot be divided among its ranks, or
            the layouts refuse each other.
    """
    ranks = counterparts(ours, theirs, rank)
    if ours.is_replicated or ours.tensor_parallel == theirs.tensor_parallel:
        return (HeadSlice(ranks[0], HeadRange(0, 0, ours.heads_per_rank)),)
    start, stop = _span(ours, rank)
    slices = []
    for other in ranks:
        other_start, other_stop = _span(theirs, other)
        first, last = max(start, other_start), min(stop, other_stop)
        heads = HeadRange(first - start, first - other_start, last - first)
        slices.append(HeadSlice(other, heads))
    return tuple(slices)


def _span(layout: Layout, rank: int) -> tuple[int, int]:
    """Returns the first head that a rank keeps, of the whole model, and the one behind its last."""
    start = rank % layout.tensor_parallel * layout.num_kv_heads // layout.tensor_parallel
    return start, start + layout.heads_per_rank
