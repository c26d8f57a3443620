"""Block ids as engines pass them."""

import numpy as np
import pytest

from p2p.backend.blocks import rows_to_gather, rows_to_scatter
from p2p.backend.results import FetchRequest
from p2p.backend.wanted import wanted_of
from p2p.errors import ArgumentError
from p2p.kernels import SKIP_BLOCK
from p2p.keys import ChunkKey


def test_chunks_are_stored_with_all_of_their_blocks():
    assert rows_to_gather([5, 1, 2, 2], 2, 2).tolist() == [[5, 1], [2, 2]]
    with pytest.raises(ArgumentError, match=r"^block_ids = 3: 2 chunks have 4 blocks"):
        rows_to_gather([5, 1, 2], 2, 2)
    with pytest.raises(ArgumentError, match=r"^block_ids = -1: a chunk is stored"):
        rows_to_gather([5, SKIP_BLOCK], 1, 2)


def test_blocks_that_are_left_out_are_skipped():
    assert rows_to_scatter([7, -1, 3], 3, 2).tolist() == [[7, -1], [3, -1], [-1, -1]]
    assert rows_to_scatter(np.array([[1, 2]], np.int32), 1, 2).tolist() == [[1, 2]]
    with pytest.raises(ArgumentError, match=r"^block_ids = 5: 2 chunks have 4 blocks"):
        rows_to_scatter([1, 2, 3, 4, 5], 2, 2)
    with pytest.raises(ArgumentError, match=r"^block_ids = 4: a block is written once"):
        rows_to_scatter([4, -1, -1, 4], 2, 2)


LARGEST = np.array([(1 << 64) - 1], np.uint64)


@pytest.mark.parametrize(
    "ids", [[0.5] * 4, ["1"] * 4, None, [[0, 1], [2]], [1 << 70] * 4, [True] * 4, LARGEST]
)
@pytest.mark.parametrize("rows", [rows_to_gather, rows_to_scatter])
def test_what_is_no_block_id_is_refused(rows, ids):
    """Not rounded, and not taken for a block to skip, as the largest of 64 bits would be."""
    with pytest.raises(ArgumentError, match=r"^block_ids = "):
        rows(ids, 1, 4)


@pytest.mark.parametrize(
    ("ids", "first", "keys"),
    [
        ([1, 2, 3, 4], 0, [b"a", b"b"]),
        ([-1, -1, 3], 1, [b"b"]),
        ([1], 0, [b"a"]),
        ([], 2, []),
        ([-1] * 4, 2, []),
    ],
)
def test_only_wanted_chunks_are_fetched(ids, first, keys):
    request = FetchRequest([ChunkKey(b"a"), ChunkKey(b"b")], 2.0, "t", "r")
    wanted = wanted_of(request, rows_to_scatter(ids, 2, 2))
    assert (wanted.first, wanted.is_nothing) == (first, not keys)
    assert wanted.request == FetchRequest(keys, 2.0, "t", "r")
