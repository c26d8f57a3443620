"""``p2p-controller leases`` and HTTP show what is lent, and who does not answer."""

import time
from contextlib import closing

import msgspec
import pytest

from p2p.keys import join_keys
from p2p.regions import Region, Segment
from p2p.wire.context import WireContext
from p2p.wire.decoders import PEER_REPLIES
from p2p.wire.messages import (
    ChannelOffer,
    Hello,
    LeaseGranted,
    LeaseRelease,
    LeaseRequest,
    PeerReply,
    RankOffer,
    Welcome,
)
from p2p.wire.requester import Requester
from p2p_controller.client import ControllerClient
from tests.e2e.controller_process import ControllerProcess
from tests.e2e.holder_process import (
    LAYOUT,
    NAMESPACE,
    HolderProcess,
    content_of,
    keys_of,
    start_backend,
)
from tests.e2e.http_client import HttpClient
from tests.unit.controller.instances import Instance

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NUM_CHUNKS = 8
KEYS = keys_of(NUM_CHUNKS)
OFFER = ChannelOffer(channel="none", metadata=b"", region=Region((Segment(0, 8, 8),), 8))
WHO = "borrower"


@pytest.fixture
def controller():
    with ControllerProcess("--http", "127.0.0.1:*") as process:
        yield process


def _borrow(requester: Requester[PeerReply]) -> LeaseGranted:
    ranks = (RankOffer(rank=0, channels=(OFFER,)),)
    hello = Hello(instance=WHO, incarnation=1, namespace=NAMESPACE, layout=LAYOUT, ranks=ranks)
    welcome = requester.request(hello, 10)
    assert isinstance(welcome, Welcome)
    blob, key_bytes = join_keys(KEYS)
    request = LeaseRequest(
        instance=WHO,
        incarnation=1,
        holder_incarnation=welcome.incarnation,
        namespace=NAMESPACE.id,
        keys=blob,
        key_bytes=key_bytes,
        ttl_ms=8000,
    )
    granted = requester.request(request, 10)
    assert isinstance(granted, LeaseGranted)
    return granted


def test_a_lease_is_shown_while_it_lasts(controller):
    with start_backend(controller.address, "a", NUM_CHUNKS) as holder:
        holder.put(KEYS, content_of(1, NUM_CHUNKS))
        assert holder.wait_advertised(10)
        assert controller.cli("leases").stdout == "no leases\n"
        with closing(WireContext(None)) as wire:
            requester = Requester(wire, holder.address, PEER_REPLIES)
            granted = _borrow(requester)
            shown = controller.cli("leases", "--json")
            assert shown.returncode == 0
            report = msgspec.json.decode(shown.stdout)
            (lease,) = report["leases_by_holder"]["a"]
            assert (lease["reader"], lease["num_chunks"]) == ("borrower", NUM_CHUNKS)
            assert lease["num_bytes"] == NUM_CHUNKS * LAYOUT.chunk_bytes
            assert 0 < lease["left_ms"] <= 8000
            (same,) = HttpClient(controller.http).get("/v1/leases").json["leases_by_holder"]["a"]
            assert {**same, "left_ms": 0} == {**lease, "left_ms": 0}
            row = controller.cli("leases").stdout.splitlines()[-1].split()
            assert row[:4] == ["a", "borrower", str(granted.token), str(NUM_CHUNKS)]
            requester.request(LeaseRelease(instance=WHO, incarnation=1, token=granted.token), 10)
            assert controller.cli("leases").stdout == "no leases\n"
            requester.close()


def test_an_instance_that_nobody_knows_is_refused_and_does_not_lend_nothing(controller):
    shown = controller.cli("leases", "--instance", "nobody")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert "unknown_instance: instance = 'nobody'" in shown.stderr
    answer = HttpClient(controller.http).get("/v1/leases?instance=nobody")
    assert (answer.status, answer.error["code"]) == (404, "unknown_instance")


def test_several_that_do_not_answer_cost_one_wait(controller):
    names = [f"dead{number}" for number in range(4)]
    with ControllerClient(controller.address) as client:
        for name in names:
            client.request(Instance(name, address="tcp://127.0.0.1:9").register())
    began_s = time.monotonic()
    shown = controller.cli("leases", "--timeout", "1.5")
    assert time.monotonic() - began_s < 4, "one after the other"
    assert shown.stdout.splitlines()[1:] == [f"{name} did not answer" for name in names]


def test_who_does_not_answer_is_named(controller):
    with HolderProcess(controller.address, "dead", 1, NUM_CHUNKS) as holder:
        holder.kill()
        shown = controller.cli("leases", "--timeout", "0.3")
        assert shown.returncode == 1
        assert "dead did not answer" in shown.stdout
