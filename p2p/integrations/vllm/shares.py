"""What each rank of an instance has of a chunk: some heads, or a shard that moves whole. Pure."""

from typing import NamedTuple

from p2p.kernels import HeadRange


class RankShare(NamedTuple):
    """One rank's.

    Attributes:
        heads: where they are in its paged cache and in a chunk.
        is_writer: false where an earlier rank keeps the same heads, and saves them.
    """

    heads: HeadRange
    is_writer: bool


def share_of(rank: int, num_ranks: int, num_heads: int, num_heads_here: int) -> RankShare:
    """Returns the share of a rank in chunks that hold the heads of all ranks in order.

    Args:
        rank: tensor-parallel rank.
        num_ranks: of the instance.
        num_heads: KV heads of the whole model; 1 for a latent cache.
        num_heads_here: that every rank keeps. With more ranks than heads, neighbours keep the same.
    """
    num_copies = max(1, num_ranks * num_heads_here // num_heads)
    first = rank // num_copies * num_heads_here
    return RankShare(HeadRange(0, first, num_heads_here), rank % num_copies == 0)
