"""What caches find in a trace, on traces that can be counted by hand; and what is no trace."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench import trace
from tests.bench.trace import TraceError, read_trace

# Two conversations that share block 0, turn by turn: A, A again, B, A longer, B longer.
REQUESTS = [(0, 1, 2), (0, 1, 2), (0, 7), (0, 1, 2, 3), (0, 7, 8)]


def _write(path: Path, *lines: str) -> Path:
    path.write_text("".join(line + "\n" for line in lines))
    return path


def _line(*ids: object, **fields: object) -> str:
    line = {"timestamp": 0, "input_length": 9, "output_length": 1, "hash_ids": list(ids)}
    return json.dumps({**line, **fields})


def test_blocks_are_counted():
    assert trace.num_blocks(REQUESTS) == 15
    assert trace.num_distinct(REQUESTS) == 6


def test_one_cache_finds_every_block_that_was_put_before():
    assert trace.found_by_one(REQUESTS) == 0 + 3 + 1 + 3 + 2


def test_a_prefix_ends_at_the_first_block_that_is_not_there():
    assert trace.found_by_one([(0, 1, 2), (5, 1, 2)]) == 0


def test_each_alone_finds_what_itself_has_put():
    # 0 and 2 and 4 on the first (0, 1, 2 | 0, 7 | 0, 7, 8), 1 and 3 on the second
    assert trace.found_alone(REQUESTS, 2) == (0 + 1 + 2) + (0 + 3)
    assert trace.found_alone(REQUESTS, 1) == trace.found_by_one(REQUESTS)
    assert trace.found_alone(REQUESTS, 5) == 0


def test_a_small_cache_drops_what_was_used_least_recently():
    # room for 2: of (0, 1, 2) the blocks 1 and 2 remain, so nothing is found from block 0 on
    assert trace.found_by_lru([(0, 1, 2), (0, 1, 2)], 2) == 0
    # with the last block used first, 1 and 0 remain
    assert trace.found_by_leaf_lru([(0, 1, 2), (0, 1, 2)], 2) == 2
    # room for 3: block 5 drops block 0, which was used before 1 and 2
    assert trace.found_by_lru([(0, 1, 2), (5,), (0, 1, 2)], 3) == 0
    assert trace.found_by_leaf_lru([(0, 1, 2), (5,), (0, 1, 2)], 3) == 2


@given(st.lists(st.integers(1, 4).map(lambda n: tuple(range(n))), max_size=8), st.integers(5, 9))
def test_a_cache_with_room_for_everything_drops_nothing(requests, room):
    found = trace.found_by_one(requests)
    assert trace.found_by_lru(requests, room) == found
    assert trace.found_by_leaf_lru(requests, room) == found


def test_requests_are_dealt_round_robin():
    assert [list(trace.dealt(REQUESTS, number, 2)) for number in range(2)] == [
        [REQUESTS[0], REQUESTS[2], REQUESTS[4]],
        [REQUESTS[1], REQUESTS[3]],
    ]


def test_a_trace_is_read_as_far_as_wanted(tmp_path):
    path = _write(tmp_path / "t", _line(0, 1), "", _line(), _line(0, 2))
    assert read_trace(path) == [(0, 1), (), (0, 2)]
    assert read_trace(path, 2) == [(0, 1), ()]


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('{"timestamp": 0, "input_length": 1, "output_length": 1}', "hash_ids"),
        (_line(0, "1"), r"\$\.hash_ids\[1\]"),
        (_line(0, -1), r"\$\.hash_ids\[1\]"),
        (_line(4, 0, 4), "`hash_ids` names 4 twice"),
        (_line(0, timestamp="now"), r"\$\.timestamp"),
        (_line(0, input_length=-1), r"\$\.input_length"),
        (_line(0, output_length=None), r"\$\.output_length"),
        ("[]", "object"),
        ('{"timestamp": 0, ', "malformed|truncated"),
        ("[" * 100_000, ""),
    ],
)
def test_a_malformed_line_is_named_with_its_field(tmp_path, line, field):
    path = _write(tmp_path / "some.jsonl", _line(0), line)
    with pytest.raises(TraceError, match=rf"some\.jsonl, line 2: .*({field})"):
        read_trace(path)


def test_what_is_not_unicode_is_malformed_too(tmp_path):
    path = tmp_path / "some.jsonl"
    path.write_bytes(b'{"timestamp": 0, "\xff\xfe": 1}\n')
    with pytest.raises(TraceError, match="line 1"):
        read_trace(path)
