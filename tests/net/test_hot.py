"""Six hosts want one long prompt that a single one has: they serve each other."""

from collections import Counter

import pytest

from tests.net import namespaces
from tests.net.instance_process import InstanceProcess, start_controller
from tests.net.namespaces import Network

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NUM_CHUNKS = 80
NUM_READERS = 6
RATE_MBIT = 200.0


@pytest.fixture
def network():
    reason = namespaces.is_supported()
    if reason:
        pytest.skip(reason)
    with Network() as network:
        yield network


def test_readers_of_a_hot_prompt_serve_each_other(network):
    names = ["h", *(f"r{number}" for number in range(NUM_READERS))]
    controller, *hosts = [network.add(name) for name in ("controller", *names)]
    address = start_controller(controller)
    holder, *readers = [InstanceProcess(host, address, 2 * NUM_CHUNKS) for host in hosts]
    holder.put("hot", NUM_CHUNKS)
    for host in hosts:
        host.limit(RATE_MBIT)
    for reader in readers:
        reader.say("fetch", "hot", NUM_CHUNKS, budget_s=50.0)
    served: Counter[str] = Counter()
    for reader in readers:
        fetched = reader.fetched()
        assert fetched["num_equal"] == fetched["num_chunks"] == NUM_CHUNKS, fetched
        served.update(fetched["chunks_by_holder"])
    assert served["h"] <= NUM_READERS * NUM_CHUNKS // 2
    assert len(served) >= 3
