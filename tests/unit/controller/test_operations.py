"""Operations: whom they concern, what is ordered, when the answer comes, and what it says."""

from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.keys import join_keys, split_keys
from p2p.wire.messages import (
    MAX_OPERATION_KEYS,
    Clear,
    Deed,
    Drain,
    DropAll,
    DropKeys,
    Evict,
    EvictKeys,
    GiveAll,
    Left,
    LeftReason,
    Move,
    Moved,
    OrderResult,
    Pin,
    PinKeys,
    Pinned,
    Refusal,
    RefusalCode,
    Replicate,
    Shutdown,
    TakeKeys,
    Unpin,
    UnpinKeys,
)
from p2p_controller.members import Given
from p2p_controller.ops.concerned import shares_by_holder
from p2p_controller.orders import listed
from tests.unit.controller.instances import NAMESPACE, Controller, keys

BLOB, KEY_BYTES = join_keys(keys(1, 2, 3, 4))


def about(kind, **fields):
    """A request about the prompt of all tests."""
    prompt = {"namespace": NAMESPACE.id, "keys": BLOB, "key_bytes": KEY_BYTES}
    return kind(**(prompt | fields))


def orders_of(controller, instance):
    return controller.status_after(instance.heartbeat()).orders


def report(controller, instance, num_chunks=4, *left, order=None):
    """An instance reports its only order; returns what the controller sends to others."""
    order = order or orders_of(controller, instance)[0]
    result = OrderResult(id=order.id, num_chunks=num_chunks, left=left)
    status, *answers = controller.send_all(instance.heartbeat(orders_done=(result,)))
    assert status.message.orders == () or order not in status.message.orders
    return [answer.message for answer in answers]


def rows(reply):
    return [
        (r.instance, r.did.value, r.num_chunks, [x.reason for x in r.left]) for r in reply.reports
    ]


@pytest.mark.parametrize(
    ("request_", "kind", "deed"),
    [
        (about(Pin, pin_ms=9), PinKeys, Deed.PINNED),
        (about(Unpin), UnpinKeys, Deed.UNPINNED),
        (about(Evict), EvictKeys, Deed.EVICTED),
    ],
)
def test_every_holder_is_asked_for_what_it_holds(request_, kind, deed):
    controller = Controller()
    p, q = controller.joined("p", 1, 2, 3), controller.joined("q", 3)
    controller.joined("r", 9)
    assert controller.send_all(request_) == []
    (first,), (second,) = orders_of(controller, p), orders_of(controller, q)
    assert {type(first), type(second)} == {kind}
    assert (first.keys, second.keys) == (join_keys(keys(1, 2, 3))[0], join_keys(keys(3))[0])
    assert report(controller, p, 3) == []
    (answer,) = report(controller, q, 1)
    assert rows(answer) == [("p", deed.value, 3, []), ("q", deed.value, 1, [])]
    assert answer.num_unheld == (1 if kind is PinKeys else 0)
    assert answer.is_complete == (kind is not PinKeys)


@given(
    held=st.lists(st.sets(st.integers(0, 9)), min_size=1, max_size=4),
    asked=st.lists(st.integers(0, 12), unique=True),
    block=st.integers(1, 4),
)
def test_shares_are_what_each_member_holds_in_the_order_of_the_keys(held, asked, block):
    controller = Controller()
    for number, numbers in enumerate(held):
        controller.joined(f"i{number}", *sorted(numbers))
    group = controller.core._state.groups[NAMESPACE.id]
    with mock.patch("p2p_controller.ops.concerned._BLOCK_KEYS", block):
        shares = shares_by_holder(group, keys(*asked), "")
    expected = {
        f"i{number}": [key for key in keys(*asked) if key in keys(*numbers)]
        for number, numbers in enumerate(held)
    }
    found = {share.member.instance: split_keys(share.keys, 32) for share in shares.shares}
    assert found == {name: chunks for name, chunks in expected.items() if chunks}
    assert shares.num_unheld == len(set(asked) - set().union(*held))


def test_a_named_instance_is_asked_for_everything():
    controller = Controller()
    p = controller.joined("p", 1)
    controller.joined("q", 1, 2)
    controller.send_all(about(Pin, instance="p", pin_ms=7))
    (order,) = orders_of(controller, p)
    assert isinstance(order, PinKeys)
    assert (order.keys, order.pin_ms, order.ttl_ms) == (BLOB, 7, 4700)
    left = Left(reason=LeftReason.NOT_HERE, num_chunks=3)
    (answer,) = report(controller, p, 1, left)
    assert isinstance(answer, Pinned)
    assert rows(answer) == [("p", "pinned", 1, [LeftReason.NOT_HERE])]
    assert not answer.is_complete


def test_entries_of_another_tenant_are_not_meant():
    controller = Controller()
    p = controller.joined("p")
    controller.status_after(p.admit(1, tenant="acme"))
    (answer,) = controller.send_all(about(Evict, tenant="other"))
    assert rows(answer.message) == []
    controller.send_all(about(Evict, tenant="acme"))
    (order,) = orders_of(controller, p)
    assert (order.keys, order.tenant) == (join_keys(keys(1))[0], "acme")


def test_a_silent_holder_is_named():
    controller = Controller()
    controller.joined("p", 1)
    controller.wait(4)
    (answer,) = controller.send_all(about(Evict))
    assert rows(answer.message) == [("p", "evicted", 0, [LeftReason.SILENT])]


def test_who_falls_silent_is_not_waited_for():
    controller = Controller()
    p = controller.joined("p", 1)
    controller.send_all(about(Evict, timeout_ms=60_000))
    assert len(orders_of(controller, p)) == 1
    (answer,) = controller.wait(4)
    assert rows(answer.message) == [("p", "evicted", 0, [LeftReason.SILENT])]
    assert orders_of(controller, p) == (), "it was taken back"


@pytest.mark.parametrize(
    ("request_", "reasons"),
    [(about(Evict), []), (about(Pin), [LeftReason.GONE])],
)
def test_who_restarts_has_dropped_everything_and_pinned_nothing(request_, reasons):
    controller = Controller()
    p = controller.joined("p", 1)
    controller.send_all(request_)
    p.incarnation += 1
    _, answer = controller.send_all(p.register())
    assert [row[3] for row in rows(answer.message)] == [reasons]


# ---------------------------------------------------------------------- replicate and move


def test_the_target_is_told_to_fetch():
    controller = Controller()
    p, q = controller.joined("p", 1, 2, 3, 4), controller.joined("q")
    controller.send_all(about(Replicate, target="q", source="p", tenant="acme"))
    assert orders_of(controller, p) == ()
    (order,) = orders_of(controller, q)
    assert isinstance(order, TakeKeys)
    assert (order.keys, order.source, order.tenant, order.hold_ms) == (BLOB, "p", "acme", 0)
    (answer,) = report(controller, q)
    assert rows(answer) == [("q", "took", 4, [])]


def test_a_move_evicts_at_every_other_holder_once_all_is_there():
    controller = Controller()
    p, r = controller.joined("p", 1, 2, 3, 4), controller.joined("r", 2)
    q = controller.joined("q", 1)
    controller.send_all(about(Move, target="q"))
    assert orders_of(controller, p) == orders_of(controller, r) == ()
    (order,) = orders_of(controller, q)
    assert order.hold_ms > 30_000, "longer than any source may take"
    assert report(controller, q) == []
    assert orders_of(controller, q) == ()
    assert [type(o) for o in orders_of(controller, p)] == [EvictKeys]
    assert report(controller, p) == []
    (answer,) = report(controller, r, 1)
    assert isinstance(answer, Moved)
    assert rows(answer) == [
        ("p", "evicted", 4, []), ("q", "took", 4, []), ("r", "evicted", 1, []),
    ]  # fmt: skip


def test_a_move_from_a_named_source_leaves_others_alone():
    controller = Controller()
    p, q, r = (controller.joined(name, 1) for name in "pqr")
    controller.send_all(about(Move, target="q", source="p"))
    assert report(controller, q) == []
    assert orders_of(controller, r) == ()
    (answer,) = report(controller, p, 1)
    assert [row[:2] for row in rows(answer)] == [("p", "evicted"), ("q", "took")]


@pytest.mark.parametrize("left", [1, 4])
def test_a_move_that_is_not_complete_evicts_nothing(left):
    controller = Controller()
    p, q = controller.joined("p", 1, 2, 3, 4), controller.joined("q")
    controller.send_all(about(Move, target="q"))
    why = Left(reason=LeftReason.NO_ROOM, num_chunks=left)
    (answer,) = report(controller, q, 4 - left, why)
    assert rows(answer) == [("q", "took", 4 - left, [LeftReason.NO_ROOM])]
    assert orders_of(controller, p) == ()


def test_a_target_that_reports_too_late_moves_nothing():
    controller = Controller()
    p, q = controller.joined("p", 1, 2, 3, 4), controller.joined("q")
    controller.send_all(about(Move, target="q", timeout_ms=1000))
    (order,) = orders_of(controller, q)
    (answer,) = controller.wait(1.1)
    assert rows(answer.message) == [("q", "took", 0, [LeftReason.NO_REPORT])]
    assert report(controller, q, order=order) == []
    assert orders_of(controller, p) == ()
    assert controller.count("orders_reported_again") == 1


def test_a_controller_that_ends_between_the_steps_says_so():
    controller = Controller()
    controller.joined("p", 1)
    q = controller.joined("q")
    controller.send_all(about(Move, target="q"))
    order = orders_of(controller, q)[0]
    member = controller.core._state.members.by_id["q"]  # type: ignore[index]
    controller.core._state.orders.report(member, (OrderResult(id=order.id, num_chunks=4),))
    _, answer = controller.send_all(Shutdown())
    assert rows(answer.message) == [("q", "took", 4, [LeftReason.TIME_OVER])]


def test_a_move_of_what_nobody_else_holds_is_a_fetch():
    controller = Controller()
    q = controller.joined("q", 1, 2, 3, 4)
    controller.send_all(about(Move, target="q"))
    (answer,) = report(controller, q)
    assert rows(answer) == [("q", "took", 4, [])]


# ---------------------------------------------------------------------- clear and drain


def test_a_tenant_without_keys_does_not_clear_everybodys():
    controller = Controller()
    controller.joined("p", 1)
    refusal = controller.send(Clear(tenant="acme"))
    assert isinstance(refusal, Refusal)
    assert (refusal.field, refusal.ours) == ("tenant", "tenant 'acme' needs keys")


def test_clearing_a_prefix_asks_everybody_in_the_namespace():
    controller = Controller()
    p, q = controller.joined("p", 1), controller.joined("q")
    controller.send_all(about(Clear))
    for instance in (p, q):
        (order,) = orders_of(controller, instance)
        assert isinstance(order, DropKeys)
        assert order.keys == BLOB


def test_a_leaving_instance_is_not_returned_but_still_a_member():
    controller = Controller()
    p, q = controller.joined("p", 1), controller.joined("q", 1)
    controller.send_all(Drain(instance="p"))
    (order,) = orders_of(controller, p)
    assert isinstance(order, GiveAll)
    assert controller.runs(1) == [(0, 1, ["p", "q"])]
    result = OrderResult(id=order.id, num_chunks=1)
    beat = p.heartbeat(orders_done=(result,), is_leaving=True)
    status, answer = controller.send_all(beat)
    assert status.message.is_leaving  # type: ignore[attr-defined]
    assert rows(answer.message) == [("p", "gave", 1, [])]
    assert controller.runs(1) == [(0, 1, ["q"])]
    assert controller.status_after(q.heartbeat()).peers > 0
    controller.send_all(p.heartbeat())
    assert controller.runs(1) == [(0, 1, ["p", "q"])], "it has thought better of it"


# ---------------------------------------------------------------------- refusals and limits


@pytest.mark.parametrize(
    ("request_", "code", "field"),
    [
        (about(Pin, keys=b""), RefusalCode.MALFORMED, "keys"),
        (about(Pin, keys=BLOB[:-1]), RefusalCode.MALFORMED, "keys"),
        (
            about(Evict, keys=bytes(8 * (MAX_OPERATION_KEYS + 1)), key_bytes=8),
            RefusalCode.MALFORMED,
            "keys",
        ),
        (about(Pin, namespace="x"), RefusalCode.NAMESPACE, "namespace"),
        (about(Evict, instance="x"), RefusalCode.UNKNOWN_INSTANCE, "instance"),
        (about(Replicate, target="x"), RefusalCode.UNKNOWN_INSTANCE, "target"),
        (about(Move, target="p", source="x"), RefusalCode.UNKNOWN_INSTANCE, "source"),
        (about(Move, target="p", source="p"), RefusalCode.MALFORMED, "source"),
        (Drain(instance="x"), RefusalCode.UNKNOWN_INSTANCE, "instance"),
        (Clear(keys=BLOB, key_bytes=KEY_BYTES), RefusalCode.MALFORMED, "namespace"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(request_, code, field):
    controller = Controller()
    controller.joined("p", 1)
    reply = controller.send(request_)
    assert isinstance(reply, Refusal)
    assert (reply.code, reply.field) == (code, field)


def test_an_answer_to_a_heartbeat_lists_no_more_than_fits():
    blob = bytes(64 * MAX_OPERATION_KEYS)
    order = EvictKeys(id=1, namespace="n", keys=blob, key_bytes=64)  # type: ignore[arg-type]
    assert len(listed([Given(order, 9.0)] * 5, 0.0)) == 2


@pytest.mark.parametrize(("left_s", "ttl_ms"), [(5.0, 4700), (0.4, 200), (-1.0, 0)])
def test_an_order_has_the_time_that_is_left_when_it_is_listed(left_s, ttl_ms):
    order = DropAll(id=1, namespace="n", ttl_ms=9)  # type: ignore[arg-type]
    assert listed([Given(order, 100.0 + left_s)], 100.0)[0].ttl_ms == ttl_ms
