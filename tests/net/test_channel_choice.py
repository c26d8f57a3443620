"""Hosts with nothing but a network between them: each pair ends with the fastest way over TCP."""

import pytest

from tests.net import namespaces
from tests.net.instance_process import InstanceProcess, start_controller
from tests.net.namespaces import Network

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NUM_CHUNKS = 8


@pytest.fixture
def network():
    reason = namespaces.is_supported()
    if reason:
        pytest.skip(reason)
    with Network() as network:
        yield network


def test_hosts_without_rdma_and_shared_memory_use_tcp(network):
    controller, *hosts = [network.add(name) for name in ("controller", "holder", "reader")]
    address = start_controller(controller)
    holder, reader = [InstanceProcess(host, address, NUM_CHUNKS, channel="") for host in hosts]
    holder.put("prompt", NUM_CHUNKS)
    reader.say("fetch", "prompt", NUM_CHUNKS)
    fetched = reader.fetched()
    assert fetched["num_equal"] == fetched["num_chunks"] == NUM_CHUNKS, fetched
    assert fetched["channel_by_holder"] == {"holder": "tcp/tcp"}


def test_a_pair_that_has_only_nixl_in_common_uses_it(network):
    controller, *hosts = [network.add(name) for name in ("controller", "holder", "reader")]
    address = start_controller(controller)
    holder = InstanceProcess(hosts[0], address, NUM_CHUNKS, channel="nixl")
    reader = InstanceProcess(hosts[1], address, NUM_CHUNKS, channel="")
    holder.put("prompt", NUM_CHUNKS)
    reader.say("fetch", "prompt", NUM_CHUNKS)
    fetched = reader.fetched()
    assert fetched["num_equal"] == fetched["num_chunks"] == NUM_CHUNKS, fetched
    assert fetched["channel_by_holder"] == {"holder": "nixl/tcp"}
