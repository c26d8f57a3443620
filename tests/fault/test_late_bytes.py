"""A holder stands still in the middle of a read over TCP: what comes late is never seen.

Whether the holder lives on is the matrix's business (``tcp-holder-stop``).
"""

import signal
import time
from collections.abc import Iterator

import pytest

from tests.e2e.controller_process import until
from tests.fault.aftermath import BUDGET_S, OVER_S
from tests.fault.cluster import SEEDS, Cluster
from tests.fault.peer_process import NUM_CHUNKS

pytestmark = [pytest.mark.fault, pytest.mark.slow]
NUM_OTHERS = 2 * NUM_CHUNKS  # as many as the reader has slots
LATE_S = 1.0
CONNECTED_S = 10.0  # half of it is for the first contact, which takes long beside other load
GIVEN_UP_S = 0.5


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A reader and one holder; the parameter is how long slots may be in quarantine."""
    with Cluster(("tcp",), holders=["a"], quarantine_s=request.param) as processes:
        yield processes


def quarantined(cluster: Cluster) -> int:
    return cluster.reader.count("slots_quarantined")


def num_under_way(cluster: Cluster) -> int:
    """Returns how many slots are being read into, by reads that nobody has given up."""
    counts = cluster.reader.ask("counters")
    known: int = sum(counts[name] for name in ("slots_free", "slots_quarantined", "chunks"))
    return NUM_OTHERS - known


def stop_in_the_middle(cluster: Cluster) -> int:
    """Returns how many chunks a fetch delivered whose only holder stood still."""
    reader, holder = cluster.reader, cluster.processes["a"]
    connected = reader.ask("fetch", num=NUM_CHUNKS, budget_s=CONNECTED_S)
    assert (connected["num"], connected["reason"]) == (NUM_CHUNKS, "complete")
    reader.ask("release")
    reader.ask("clear")
    reader.say(do="fetch", num=NUM_CHUNKS, budget_s=BUDGET_S, phase="mid_transfer")
    reader.hear_phase()
    holder.signal(signal.SIGSTOP)
    answer = reader.go_on()
    assert answer["seconds"] < BUDGET_S + OVER_S
    assert (answer["wrong"], answer["transports"]) == ([], ["tcp"])
    assert answer["num"] < NUM_CHUNKS, "the holder stood still too late"
    assert answer["reason"] in {"read_stalled", "budget_spent"}
    num_delivered: int = answer["num"]
    # reads of what lies behind the prefix are given up in their own time, a moment later
    assert until(lambda: num_under_way(cluster) == 0, GIVEN_UP_S)
    return num_delivered


def expect_no_late_bytes(cluster: Cluster, num_filled: int) -> None:
    """Reads all contents again and again."""
    deadline_s = time.monotonic() + LATE_S
    while time.monotonic() < deadline_s:
        assert cluster.reader.ask("recheck") == {"wrong": []}
        assert cluster.reader.ask("filled") == {"num": num_filled, "wrong": []}


@pytest.mark.parametrize("cluster", [30.0], indirect=True)
def test_slots_stay_out_of_use_until_the_holder_goes_on(cluster):
    num_delivered = stop_in_the_middle(cluster)
    num_quarantined = quarantined(cluster)
    assert num_quarantined > 0
    filled = cluster.reader.ask("fill", num=NUM_OTHERS, seed=SEEDS["b"])
    assert filled["num"] == NUM_OTHERS - num_delivered - num_quarantined
    cluster.processes["a"].signal(signal.SIGCONT)
    expect_no_late_bytes(cluster, filled["num"])
    assert until(lambda: quarantined(cluster) == 0, 5), "what was late has come, or will not"


@pytest.mark.parametrize("cluster", [1.0], indirect=True)
def test_slots_that_were_fenced_are_reused_before_the_holder_goes_on(cluster):
    num_delivered = stop_in_the_middle(cluster)
    assert until(lambda: quarantined(cluster) == 0, 5)
    filled = cluster.reader.ask("fill", num=NUM_OTHERS, seed=SEEDS["b"])
    assert filled["num"] == NUM_OTHERS - num_delivered
    cluster.processes["a"].signal(signal.SIGCONT)
    expect_no_late_bytes(cluster, filled["num"])
    assert cluster.reader.count("drained_bytes") > 0, "nothing came late"
    cluster.processes["a"].expect_alive()
