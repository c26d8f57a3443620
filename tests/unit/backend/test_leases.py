"""Leases that were granted: who may hold how much, and when they are over."""

import pytest

from p2p.backend.borrow import usable_until_s
from p2p.backend.leases import LeaseLimits, LeaseTable, Reader
from tests.unit.backend.builders import entry, prompt

R1, R2 = Reader("r", 1), Reader("r", 2)
OTHER = Reader("other", 1)
ENTRIES = tuple(entry(key, slot) for slot, key in enumerate(prompt(2)))


@pytest.fixture
def table():
    return LeaseTable(LeaseLimits(ttl_s=10.0, num_per_reader=2, bytes_per_reader=100))


def _grant(table, reader=R1, num_bytes=10, ttl_s=5.0, now_s=0.0):
    return table.grant(reader, ENTRIES, num_bytes, ttl_s, now_s)


def test_tokens_grow(table):
    assert [_grant(table).token for _ in range(3)] == [1, 2, 3]


def test_a_lease_lasts_as_asked_but_no_longer_than_the_limit(table):
    assert _grant(table, ttl_s=5.0, now_s=1.0).deadline_s == 6.0
    assert _grant(table, ttl_s=50.0, now_s=1.0).deadline_s == 11.0


def test_leases_end_at_their_deadline_and_not_before(table):
    early, late = _grant(table, ttl_s=1.0), _grant(table, ttl_s=2.0)
    assert table.next_deadline_s() == 1.0
    assert table.expire(0.999) == []
    assert table.expire(1.0) == [early]
    assert table.expire(9.0) == [late]
    assert (len(table), table.next_deadline_s()) == (0, None)


def test_bytes_count_per_lease(table):
    _grant(table, num_bytes=30)
    lease = _grant(table, num_bytes=40)
    assert table.num_bytes == 70
    table.release(R1, lease.token)
    assert table.num_bytes == 30


def test_a_reader_is_limited_in_bytes_and_in_number(table):
    _grant(table, num_bytes=60)
    assert table.room(R1) == 40
    _grant(table, num_bytes=0)
    assert table.room(R1) == 0
    assert table.room(OTHER) == 100, "limits are per reader"


def test_a_lease_is_released_once_and_by_its_reader_only(table):
    lease = _grant(table)
    assert table.release(R2, lease.token) is None
    assert table.release(OTHER, lease.token) is None
    assert table.release(R1, lease.token) is lease
    assert table.release(R1, lease.token) is None


def test_a_renewal_extends_and_never_shortens(table):
    lease = _grant(table, ttl_s=5.0)
    assert table.renew(R1, lease.token, 1.0, now_s=1.0) == 1.0
    assert lease.deadline_s == 5.0
    assert table.renew(R1, lease.token, 50.0, now_s=4.0) == 10.0
    assert lease.deadline_s == 14.0


def test_what_is_over_or_another_s_is_not_renewed(table):
    lease = _grant(table, ttl_s=5.0)
    assert table.renew(OTHER, lease.token, 1.0, now_s=0.0) is None
    assert table.renew(R1, lease.token + 1, 1.0, now_s=0.0) is None
    assert table.renew(R1, lease.token, 1.0, now_s=5.0) is None


def test_a_new_start_of_a_reader_fences_its_earlier_ones(table):
    old, new, other = _grant(table, R1), _grant(table, R2), _grant(table, OTHER)
    assert table.fence(R2) == [old]
    assert table.fence(R2) == []
    assert table.release(R2, new.token) is new
    assert table.release(OTHER, other.token) is other


def test_a_reader_trusts_less_than_was_promised_and_counts_from_its_question():
    until_s = usable_until_s(asked_s=100.0, ttl_ms=1000)
    assert until_s == pytest.approx(100.975)
    assert usable_until_s(100.0, 4) < 100.0
