"""The simulated cluster keeps its promises on many seeds, and breaks them when it is made to."""

from collections.abc import Callable

import pytest

from p2p.backend.feed import EventFeed
from p2p.backend.fetch import Fetch
from p2p.backend.instance import InstanceCore
from p2p.backend.readings import Readings
from p2p.wire.messages import EventKind
from tests.sim.world import World, run_seed

NUM_SEEDS = 300


def test_a_seed_replays_exactly():
    first, second = run_seed(7), run_seed(7)
    assert first == second
    assert first != run_seed(8)


@pytest.mark.slow
def test_no_seed_breaks_a_promise():
    reports = [run_seed(seed) for seed in range(NUM_SEEDS)]
    assert {report.seed: report.problem for report in reports if report.problem} == {}
    assert min(report.events for report in reports) > 1000
    assert min(report.fetches for report in reports) >= 20
    seen = {reason for report in reports for reason in report.outcomes}
    assert {"complete", "no_holder", "peer_silent", "read_stalled", "digest_mismatch"} <= seen


def _no_verification(patch: pytest.MonkeyPatch) -> None:
    def accept(self, read_id, roots, now_s, check=Fetch.on_verified):
        reading = self._readings[read_id]
        check(self, read_id, [reading.grant.roots_by_position[p] for p in reading.positions], now_s)

    patch.setattr(Fetch, "on_verified", accept)


def _reuse_before_quiescence(patch: pytest.MonkeyPatch) -> None:
    def give_up(self, reading, now_s, keep=Readings.give_up):
        keep(self, reading, now_s)
        for slot in reading.slots:
            self._context.desk.instance.slots.release(slot)
        object.__setattr__(self._readings[reading.read_id], "slots", ())

    patch.setattr(Readings, "give_up", give_up)


def _forgotten_pins(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(InstanceCore, "_end", lambda self, lease: None)


def _evictions_untold(patch: pytest.MonkeyPatch) -> None:
    def append(self, kind, key, tenant, tell=EventFeed.append):
        if kind is not EventKind.EVICT:
            tell(self, kind, key, tenant)

    patch.setattr(EventFeed, "append", append)


@pytest.mark.parametrize(
    ("defect", "problem"),
    [
        (_no_verification, "wrong bytes"),
        (_reuse_before_quiescence, "while written"),
        (_forgotten_pins, "lost a pin"),
        (_evictions_untold, "the directory says"),
    ],
)
def test_a_defect_is_found(
    monkeypatch: pytest.MonkeyPatch, defect: Callable[[pytest.MonkeyPatch], None], problem: str
):
    defect(monkeypatch)
    problems = [run_seed(seed).problem for seed in range(60)]
    assert any(problem in found for found in problems), problems


def test_a_lost_snapshot_page_is_sent_again_although_heartbeats_are_answered():
    world = World(30)  # the seed that found it
    world.run()
