"""Who is returned for a chain, in which order, and who is not."""

import msgspec
import pytest

from p2p.keys import Namespace
from p2p.layout import ByteOrder
from p2p.wire.messages import Locate, Refusal, RefusalCode
from tests.unit.controller.instances import DEVICE, HOST, LAYOUT, NAMESPACE, Controller


def test_a_chain_that_nobody_holds_has_no_runs():
    controller = Controller()
    controller.joined("p", 2, 3)
    assert controller.runs(1, 2, 3) == []
    assert controller.runs() == []


def test_an_unknown_namespace_is_a_miss():
    controller = Controller()
    controller.joined("p", 1)
    other = msgspec.structs.replace(NAMESPACE, weights_digest="other")
    assert controller.locate(1, namespace=other).runs == ()


def test_keys_of_two_namespaces_never_meet():
    controller = Controller()
    controller.joined(
        "p", 1, 2, namespace=Namespace(model="m", weights_digest="x", kv_dtype="int8")
    )
    controller.joined("q", 1)
    assert controller.runs(1, 2) == [(0, 1, ["q"])]


def test_the_prefix_ends_at_the_first_chunk_that_nobody_holds():
    controller = Controller()
    controller.joined("p", 1, 2, 4, 5)
    assert controller.runs(1, 2, 3, 4, 5) == [(0, 2, ["p"])]


def test_runs_change_where_holders_change():
    controller = Controller()
    controller.joined("p", 1, 2, 3)
    controller.joined("q", 2, 3, 4, 5)
    assert controller.runs(1, 2, 3, 4, 5, 6) == [(0, 1, ["p"]), (1, 2, ["p", "q"]), (3, 2, ["q"])]


def test_best_holders_lend_least_then_were_heard_last():
    controller = Controller()
    p, q, r, s = (controller.joined(name, 1) for name in "pqrs")
    controller.send(p.heartbeat(load_bytes=100))
    controller.send(r.heartbeat(load_bytes=50))
    controller.send(s.heartbeat())
    controller.now_s += 1
    controller.send(q.heartbeat())
    assert controller.runs(1) == [(0, 1, ["q", "s", "r", "p"])]


@pytest.mark.parametrize("count", [8, 9, 16, 17, 100])
def test_eight_holders_at_most_and_the_number_of_the_others(count):
    controller = Controller()
    for number in range(count):
        instance = controller.joined(f"i{number:03}", 1)
        controller.send(instance.heartbeat(load_bytes=1000 - number))
    (run,) = controller.locate(1).runs
    assert run.more == count - 8
    assert controller.runs(1)[0][2] == [f"i{count - 1 - place:03}" for place in range(8)]


def test_each_holder_is_listed_once():
    controller = Controller()
    controller.joined("p", 1, 2, 3, 4)
    controller.joined("q", 2, 4)
    located = controller.locate(1, 2, 3, 4)
    assert len(located.runs) == 4
    assert sorted(holder.instance for holder in located.holders) == ["p", "q"]


def test_holders_that_the_asker_cannot_read_are_left_out():
    controller = Controller()
    controller.joined("p", 1, 2)
    opaque = msgspec.structs.replace(LAYOUT, byte_order=ByteOrder.OPAQUE)
    controller.joined("q", 1, 2, layout=opaque)
    sliced = msgspec.structs.replace(LAYOUT, tensor_parallel=4)
    controller.joined("r", 1, 2, layout=sliced)
    assert controller.runs(1, 2, asker="q") == [(0, 2, ["q"])]
    assert controller.runs(1, 2, asker="r") == [(0, 2, ["p", "r"])]
    assert controller.runs(1, 2) == [(0, 2, ["p", "q", "r"])]
    assert controller.runs(1, 2, asker="stranger") == [(0, 2, ["p", "q", "r"])]


def test_a_run_is_not_split_by_holders_that_do_not_count():
    controller = Controller()
    controller.joined("p", 1, 2, 3)
    controller.joined("q", 2, layout=msgspec.structs.replace(LAYOUT, num_layers=3))
    assert controller.runs(1, 2, 3, asker="p") == [(0, 3, ["p"])]


def test_entries_of_a_tenant_are_for_that_tenant():
    controller = Controller()
    p = controller.joined("p", 1)
    controller.send(p.admit(2, 3, tenant="acme"))
    controller.send(p.admit(2, tenant="zen"))
    assert controller.runs(1, 2, 3) == [(0, 1, ["p"])]
    assert controller.runs(1, 2, 3, tenant="acme") == [(0, 3, ["p"])]
    assert controller.runs(1, 2, 3, tenant="zen") == [(0, 2, ["p"])]
    assert controller.runs(1, 2, 3, tenant="nobody") == [(0, 1, ["p"])]
    controller.send(p.evict(2, tenant="acme"))
    assert controller.runs(1, 2, 3, tenant="acme") == [(0, 1, ["p"])]
    assert controller.runs(1, 2, 3, tenant="zen") == [(0, 2, ["p"])]


def test_keys_of_other_lengths_are_other_keys():
    controller = Controller()
    controller.joined("p", 1)
    question = Locate(namespace=NAMESPACE.id, keys=bytes(15) + b"\1", key_bytes=16)
    assert controller.send(question).runs == ()  # type: ignore[union-attr]


def test_a_broken_blob_of_keys_is_refused_and_counted():
    controller = Controller()
    reply = controller.send(Locate(namespace=NAMESPACE.id, keys=bytes(33), key_bytes=32))
    assert isinstance(reply, Refusal)
    assert reply.code is RefusalCode.MALFORMED
    assert controller.count("malformed") == 1


def test_holders_carry_what_a_reader_needs():
    controller = Controller()
    controller.joined("p", 1, address="tcp://10.0.0.9:7700")
    controller.now_s += 0.25
    (holder,) = controller.locate(1).holders
    assert (holder.address, holder.incarnation, holder.age_ms) == ("tcp://10.0.0.9:7700", 1, 250)


def test_every_holder_of_a_run_is_named_with_its_tier():
    controller = Controller()
    p = controller.joined("p", 1, 2, 3)
    q = controller.joined("q", 1)
    controller.send(q.change((HOST, 2), (HOST, 3)))
    controller.send(p.heartbeat(load_bytes=1))
    first, second = controller.locate(1, 2, 3).runs
    assert (first.start, first.count, first.tiers) == (0, 1, bytes([DEVICE, DEVICE]))
    assert (second.start, second.count, second.tiers) == (1, 2, bytes([HOST, DEVICE]))
    controller.send(q.change((DEVICE, 2)))
    controller.send(p.change((HOST, 3)))
    tiers = [run.tiers for run in controller.locate(1, 2, 3).runs]
    assert tiers == [bytes([DEVICE, DEVICE]), bytes([HOST, HOST])]
    assert controller.is_equal(p)
    assert controller.is_equal(q)


def test_a_holder_of_two_tenants_entries_counts_once_with_its_nearest_tier():
    controller = Controller()
    p = controller.joined("p")
    controller.send(p.change((HOST, 1)))
    controller.send(p.change((DEVICE, 1), tenant="acme"))
    (run,) = controller.locate(1, tenant="acme").runs
    assert (run.holders, run.more, run.tiers) == ((0,), 0, bytes([DEVICE]))
    assert controller.locate(1).runs[0].tiers == bytes([HOST])
