"""What monitoring is told: sizes by namespace, and how long requests took."""

from p2p.keys import Namespace
from p2p.wire.messages import ControllerMetrics, GetMetrics, GetStatus, Locate, Shutdown
from p2p_controller.handling import NUM_BUCKETS, HandlingTimes
from tests.unit.controller.instances import NAMESPACE, Controller

OTHER = Namespace(model="large", weights_digest="d2", kv_dtype="float16")


def test_times_are_counted_by_power_of_two():
    times = HandlingTimes()
    assert times.count(Locate)
    assert times.count(GetStatus)
    for elapsed_ns in (0, 999, 1_000, 3_999, 4_000, 10**18):
        times.note(Locate, elapsed_ns)
    times.note(GetStatus, 5_000)
    status, locate = times.metrics()
    assert (status.kind, locate.kind) == ("GetStatus", "Locate")
    assert len(locate.num_by_bucket) == NUM_BUCKETS
    assert locate.num_by_bucket[:4] == (2, 1, 1, 1)
    assert locate.num_by_bucket[-1] == 1
    assert locate.total_ns == 10**18 + 9_998
    assert status.num_by_bucket[3] == 1


def test_all_are_counted_and_one_in_sixteen_is_timed():
    times = HandlingTimes()
    timed = [number for number in range(40) if times.count(Locate)]
    assert timed == [0, 16, 32]
    for _ in timed:
        times.note(Locate, 1_000)
    (locate,) = times.metrics()
    assert (locate.num, sum(locate.num_by_bucket)) == (40, 3)


def test_sizes_are_told_by_namespace():
    controller = Controller(silent_after_s=3.0)
    controller.joined("p", 1, 2, 3)
    controller.joined("r", 1, namespace=OTHER)
    controller.wait(4)
    controller.joined("q", 3, 4)
    answer = controller.send(GetMetrics())
    assert isinstance(answer, ControllerMetrics)
    by_id = {space.namespace: space for space in answer.namespaces}
    tiny, large = by_id[NAMESPACE.id], by_id[OTHER.id]
    assert (tiny.num_alive, tiny.num_silent, tiny.num_keys, tiny.num_entries) == (1, 1, 4, 5)
    assert (large.model, large.num_alive, large.num_silent, large.num_keys) == ("large", 0, 1, 1)


def test_the_end_shows_in_the_status():
    controller = Controller()
    assert not controller.state().closing
    controller.send(Shutdown())
    assert controller.state().closing
