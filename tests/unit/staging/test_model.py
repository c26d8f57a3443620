"""The model of a staged copy: the page's figures, a schedule made independently, and sizes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.channel.staging import RingSize, StageCost, StagingModel, ring_size
from p2p.errors import ArgumentError
from tests.unit.staging.staged import schedule

MIB = 1 << 20
DOWN = StageCost("down", 8e-6, 50e9)
NET = StageCost("net", 10e-6, 25e9)
UP = StageCost("up", 8e-6, 50e9)
USUAL = StagingModel((DOWN, NET, UP))

costs = st.builds(
    StageCost,
    st.just("any"),
    st.floats(0, 1e-3),
    st.floats(1e6, 1e12),
)
models = st.lists(costs, min_size=1, max_size=5).map(lambda stages: StagingModel(tuple(stages)))


@pytest.mark.parametrize(
    ("total", "serial_ms", "piped_ms", "slot_mib"),
    [(64 * MIB, 5.39, 3.03, 3.9), (16 * MIB, 1.37, 0.85, 1.95)],
)
def test_known_figures(total, serial_ms, piped_ms, slot_mib):
    best = USUAL.best_slot_bytes(total)
    assert USUAL.seconds(total, total) * 1e3 == pytest.approx(serial_ms, abs=0.006)
    assert USUAL.seconds(total, best) * 1e3 == pytest.approx(piped_ms, abs=0.006)
    assert best / MIB == pytest.approx(slot_mib, abs=0.03)


@given(models, st.integers(1, 40), st.integers(1, 1 << 26))
def test_the_model_is_the_schedule_with_enough_slots(model, num_pieces, slot_bytes):
    times = [stage.seconds(slot_bytes) for stage in model.stages]
    exact = schedule(times, num_pieces, num_pieces)
    assert model.seconds(num_pieces * slot_bytes, slot_bytes) == pytest.approx(exact)


@given(models, st.integers(1, 60), st.integers(1, 1 << 26))
def test_the_needed_slots_are_enough_and_one_less_is_not(model, num_pieces, slot_bytes):
    times = [stage.seconds(slot_bytes) for stage in model.stages]
    needed = model.slots_needed(slot_bytes)
    enough = schedule(times, num_pieces, num_pieces)
    slack = max(times) * 1e-6 * num_pieces
    assert schedule(times, num_pieces, needed) <= enough + slack
    if needed > 1 and num_pieces > needed and sum(times) / max(times) - needed + 1 > 1e-3:
        assert schedule(times, num_pieces, needed - 1) > enough


@given(models, st.integers(1, 1 << 30), st.floats(0, 1))
def test_no_other_size_is_faster(model, total, share):
    best = model.best_slot_bytes(total)
    assert 1 <= best <= total
    other = 1 + share * (total - 1)
    assert model.seconds(total, best) <= model.seconds(total, other) * (1 + 1e-9)


@given(models, st.integers(1, 1 << 30), st.integers(1, 1 << 30))
def test_staging_is_no_faster_than_its_slowest_stage(model, total, slot_bytes):
    seconds = model.seconds(total, slot_bytes)
    slowest = max(total / stage.bytes_per_s for stage in model.stages)
    assert seconds >= slowest * (1 - 1e-9)


def test_short_copies_go_in_one_shot():
    assert ring_size(USUAL.stages, MIB // 2) == RingSize(MIB // 2, 4)
    assert ring_size(USUAL.stages, 1000) == RingSize(4096, 4)


@given(models, st.integers(MIB, 1 << 34), st.sampled_from([4096, 2 * MIB]))
def test_sizes_stay_within_bounds(model, total, alignment):
    size = ring_size(model.stages, total, alignment=alignment)
    assert size.slot_bytes % alignment == 0
    assert 256 << 10 <= size.slot_bytes <= 8 * MIB
    assert size.num_slots >= max(4, model.slots_needed(size.slot_bytes) + 1)


def test_a_distant_peer_takes_more_slots():
    near = ring_size(USUAL.stages, 64 * MIB)
    far = ring_size(USUAL.stages, 64 * MIB, in_flight_bytes=10 * near.slot_bytes + 1)
    assert (near.num_slots, far.num_slots) == (4, 15)


def test_folding_and_memory():
    folded = DOWN.after(50e9)
    assert folded.bytes_per_s == pytest.approx(25e9)
    assert NET.within(20e9, 2).bytes_per_s == pytest.approx(10e9)
    assert NET.within(2e12, 2) == NET


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_bad_costs_are_refused(bad):
    with pytest.raises(ArgumentError, match="latency_s"):
        StageCost("x", bad, 1.0)
    with pytest.raises(ArgumentError, match="bytes_per_s"):
        StageCost("x", 0.0, 0.0 if bad == -1.0 else bad)


def test_bad_sizes_are_refused():
    with pytest.raises(ArgumentError, match="stages"):
        StagingModel(())
    with pytest.raises(ArgumentError, match="slot_bytes = 0"):
        USUAL.seconds(1, 0)
    with pytest.raises(ArgumentError, match="total_bytes = 0"):
        ring_size(USUAL.stages, 0)
    with pytest.raises(ArgumentError, match="alignment"):
        ring_size(USUAL.stages, MIB, alignment=0)
    with pytest.raises(ArgumentError, match="in_flight_bytes"):
        ring_size(USUAL.stages, MIB, in_flight_bytes=-1)
