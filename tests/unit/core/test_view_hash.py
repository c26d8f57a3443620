"""The view hash of one entry and of a batch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.view_hash import view_hash_of, view_hashes


@given(
    st.integers(8, 64).flatmap(
        lambda n: st.lists(st.binary(min_size=n, max_size=n), min_size=1, max_size=20)
    ),
    st.sampled_from(["", "acme", "Zoë"]),
    st.sampled_from([1, 2]),
)
def test_a_batch_is_hashed_as_its_keys_are(keys, tenant, tier):
    hashes = view_hashes(b"".join(keys), len(keys[0]), tenant, tier)
    assert hashes.tolist() == [view_hash_of(key, tenant, tier) for key in keys]


def test_every_part_of_an_entry_counts():
    key = bytes(range(32))
    others = {
        view_hash_of(key, "t", 1),
        view_hash_of(key, "", 2),
        view_hash_of(key[:31], "", 1),
        *(view_hash_of(key[:at] + b"\xff" + key[at + 1 :], "", 1) for at in range(32)),
    }
    assert view_hash_of(key, "", 1) not in others
    assert len(others) == 35


@pytest.mark.parametrize("tier", [1, 2])
def test_sums_of_consecutive_numbers_do_not_meet(tier):
    first, second, third, fourth = (
        view_hash_of(number.to_bytes(32, "big"), "", tier) for number in range(4)
    )
    assert (first + fourth) % 2**64 != (second + third) % 2**64


def test_view_hashes_are_frozen():
    assert view_hash_of(b"k" * 32, "", 1) == 3377422881085839511
    assert view_hash_of(b"k" * 33, "t", 2) == 15402638358021607089
