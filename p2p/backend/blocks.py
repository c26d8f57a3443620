"""Block ids as engines pass them, made into one row per chunk. Pure."""

import numpy as np
import numpy.typing as npt

from p2p.errors import ArgumentError
from p2p.kernels import SKIP_BLOCK, BlockIds, int_array

BlockRows = npt.NDArray[np.int64]


def rows_to_gather(block_ids: BlockIds, num_chunks: int, per_chunk: int) -> BlockRows:
    """Returns (C, N) the blocks of chunks that are stored whole.

    Raises:
        ArgumentError: ids are no integers, or not every block of every chunk is there.
    """
    ids = int_array(block_ids).reshape(-1)
    wanted = num_chunks * per_chunk
    if len(ids) != wanted:
        raise ArgumentError("block_ids", len(ids), f"{num_chunks} chunks have {wanted} blocks")
    if ids.size and int(ids.min()) < 0:
        raise ArgumentError("block_ids", int(ids.min()), "a chunk is stored with all of its blocks")
    return ids.reshape(num_chunks, per_chunk)


def rows_to_scatter(block_ids: BlockIds, num_chunks: int, per_chunk: int) -> BlockRows:
    """Returns (C, N) the blocks to write; what the ids leave out at the end is skipped.

    Raises:
        ArgumentError: ids are no integers, more than the chunks have blocks, or a block twice.
    """
    ids = int_array(block_ids).reshape(-1)
    most = num_chunks * per_chunk
    if len(ids) > most:
        raise ArgumentError("block_ids", len(ids), f"{num_chunks} chunks have {most} blocks")
    written, counts = np.unique(ids[ids != SKIP_BLOCK], return_counts=True)
    if counts.size and int(counts.max()) > 1:
        twice = int(written[int(counts.argmax())])
        raise ArgumentError("block_ids", twice, "a block is written once")
    rows = np.full(most, SKIP_BLOCK, np.int64)
    rows[: len(ids)] = ids
    return rows.reshape(num_chunks, per_chunk)
