"""How fast reads and the engine have been."""

import pytest

from p2p.backend.speeds import Rate, Speeds, Standing

MIB = 1 << 20


def test_a_rate_is_amount_over_time_and_unknown_before():
    rate = Rate()
    assert rate.value(0.0) is None
    rate.note(100, 0.5, 10.0)
    rate.note(300, 0.5, 11.0)
    assert rate.value(11.0) == pytest.approx(400.0)


def test_a_rate_follows_what_happens_now():
    rate = Rate()
    for second in range(20):
        rate.note(1000, 0.5, float(second))
    for second in range(20, 30):
        rate.note(100, 0.5, float(second))
    assert rate.value(30.0) == pytest.approx(200.0, rel=0.05)


def test_an_old_rate_is_forgotten():
    rate = Rate()
    rate.note(1000, 1.0, 0.0)
    assert rate.value(60.0) == pytest.approx(1000.0)
    assert rate.value(61.0) is None
    rate.note(10, 1.0, 100.0)
    assert rate.value(100.0) == pytest.approx(10.0)


def test_reads_that_overlap_share_the_time():
    speeds = Speeds()
    speeds.started("a", 8 * MIB, 10.0)
    speeds.started("a", 8 * MIB, 10.0)
    assert speeds.standing("a", 10.0) == Standing(None, 16 * MIB, 0.0)
    speeds.ended("a", 8 * MIB, 10.5, is_good=True)
    speeds.ended("a", 8 * MIB, 11.0, is_good=True)
    assert speeds.standing("a", 11.0).bytes_per_s == pytest.approx(16 * MIB)
    assert speeds.standing("a", 11.0).in_flight == 0


def test_small_reads_that_follow_each_other_count_together():
    speeds = Speeds()
    speeds.started("a", MIB // 2, 0.0)
    for number in range(1, 9):
        speeds.started("a", MIB // 2, number / 8)
        speeds.ended("a", MIB // 2, number / 8, is_good=True)
    assert speeds.standing("a", 1.0).bytes_per_s == pytest.approx(4 * MIB)


def test_time_without_reads_does_not_count():
    speeds = Speeds()
    for start in (0.0, 30.0):
        speeds.started("a", 4 * MIB, start)
        speeds.ended("a", 4 * MIB, start + 0.25, is_good=True)
    assert speeds.standing("a", 31.0).bytes_per_s == pytest.approx(16 * MIB)


def test_small_reads_and_bad_ones_tell_nothing_about_bandwidth():
    speeds = Speeds()
    speeds.started("a", MIB - 1, 0.0)
    speeds.ended("a", MIB - 1, 1.0, is_good=True)
    speeds.started("a", 4 * MIB, 2.0)
    speeds.ended("a", 4 * MIB, 9.0, is_good=False)
    assert speeds.standing("a", 9.0) == Standing()


def test_what_is_under_way_says_how_long_it_takes():
    speeds = Speeds()
    speeds.started("a", 4 * MIB, 0.0)
    assert speeds.expected_s("a", 0.0) is None
    speeds.ended("a", 4 * MIB, 0.5, is_good=True)
    speeds.started("a", 16 * MIB, 1.0)
    assert speeds.expected_s("a", 1.0) == pytest.approx(2.0)


def test_refusals_fade():
    speeds = Speeds()
    speeds.refused("a", 0.0)
    speeds.refused("a", 0.0)
    assert speeds.standing("a", 0.0).refusals == pytest.approx(2.0)
    assert speeds.standing("a", 3.0).refusals == pytest.approx(0.25)
