"""Orders reach every instance concerned, until it reports; who asked is told."""

import msgspec
import pytest

from p2p.wire.messages import (
    MAX_ORDERS,
    Clear,
    Cleared,
    Deed,
    Done,
    GetStatus,
    InstanceReport,
    Left,
    LeftReason,
    OrderResult,
    Refusal,
    RefusalCode,
    Shutdown,
)
from tests.unit.controller.instances import NAMESPACE, SENDER, Controller

OTHER = msgspec.structs.replace(NAMESPACE, weights_digest="other")


def cleared(**chunks):
    """The answer when instances dropped so many chunks, or did not for a reason."""
    return Cleared(reports=tuple(_report(name, what) for name, what in chunks.items()))


def _report(name, what):
    if isinstance(what, int):
        return InstanceReport(instance=name, did=Deed.DROPPED, num_chunks=what)
    return InstanceReport(instance=name, did=Deed.DROPPED, left=(Left(reason=what),))


def done(order, num_chunks):
    return (OrderResult(id=order.id, num_chunks=num_chunks),)


def orders_of(controller, instance):
    return controller.status_after(instance.heartbeat()).orders


def test_the_answer_comes_when_everybody_has_reported():
    controller = Controller()
    p, q = controller.joined("p", 1), controller.joined("q", 1)
    assert controller.send_all(Clear()) == []
    (first,), (second,) = orders_of(controller, p), orders_of(controller, q)
    assert first.namespace == NAMESPACE.id
    assert len(controller.send_all(p.heartbeat(orders_done=done(first, 3)))) == 1
    status, answer = controller.send_all(q.heartbeat(orders_done=done(second, 4)))
    assert answer.to == SENDER
    assert answer.message == cleared(p=3, q=4)
    assert status.message.orders == ()  # type: ignore[attr-defined]


def test_an_order_is_repeated_until_it_is_reported_and_not_after():
    controller = Controller()
    p = controller.joined("p")
    controller.send_all(Clear())
    (order,) = orders_of(controller, p)
    assert orders_of(controller, p) == (order,)
    assert controller.status_after(p.admit(1)).orders is None, "says nothing of orders"
    beat = p.heartbeat(orders_done=done(order, 0))
    controller.send_all(beat)
    assert controller.status_after(beat).orders == ()
    assert controller.count("orders_reported_again") == 1


def test_who_does_not_report_in_time_is_missing():
    controller = Controller()
    p, q = controller.joined("p"), controller.joined("q")
    controller.send_all(Clear(timeout_ms=1000))
    (order,) = orders_of(controller, p)
    controller.send_all(p.heartbeat(orders_done=done(order, 2)))
    assert controller.wait(0.9) == []
    (answer,) = controller.wait(0.2)
    assert answer.message == cleared(p=2, q=LeftReason.NO_REPORT)
    assert orders_of(controller, q) == (), "it was taken back"
    assert controller.count("orders_taken_back") == 1


def test_silent_instances_are_missing_at_once():
    controller = Controller()
    p = controller.joined("p")
    controller.wait(4)
    (answer,) = controller.send_all(Clear())
    assert answer.message == cleared(p=LeftReason.SILENT)
    assert orders_of(controller, p) == ()


def test_nobody_there_is_no_failure():
    (answer,) = Controller().send_all(Clear())
    assert answer.message == Cleared()


@pytest.mark.parametrize(
    ("clear", "concerned"),
    [
        (Clear(), "pqr"),
        (Clear(namespace=NAMESPACE.id), "pq"),
        (Clear(namespace=OTHER.id), "r"),
        (Clear(instance="q"), "q"),
        (Clear(namespace=NAMESPACE.id, instance="p"), "p"),
        (Clear(namespace=OTHER.id, instance="p"), ""),
    ],
)
def test_only_those_concerned_get_the_order(clear, concerned):
    controller = Controller()
    instances = [controller.joined("p"), controller.joined("q")]
    instances.append(controller.joined("r", namespace=OTHER))
    controller.send_all(clear)
    assert "".join(i.name for i in instances if orders_of(controller, i)) == concerned


def test_unknown_names_are_refused():
    controller = Controller()
    controller.joined("p")
    for clear, code in (
        (Clear(instance="x"), RefusalCode.UNKNOWN_INSTANCE),
        (Clear(namespace="x"), RefusalCode.NAMESPACE),
    ):
        reply = controller.send(clear)
        assert isinstance(reply, Refusal)
        assert (reply.code, reply.theirs) == (code, "x")


def test_chunks_of_an_instance_that_left_or_restarted_are_gone():
    controller = Controller()
    p, q = controller.joined("p"), controller.joined("q")
    controller.send_all(Clear())
    controller.send_all(p.deregister())
    q.incarnation += 1
    registered, answer = controller.send_all(q.register())
    assert answer.message == cleared(p=0, q=0)
    assert registered.to == SENDER


def test_an_order_survives_a_second_registration_of_the_same_start():
    controller = Controller()
    p = controller.joined("p")
    controller.send_all(Clear())
    controller.join(p)
    assert len(orders_of(controller, p)) == 1


def test_order_ids_of_two_controllers_differ():
    ids = set()
    for epoch in (1, 2):
        controller = Controller(epoch=epoch)
        p = controller.joined("p")
        controller.send_all(Clear())
        ids.add(orders_of(controller, p)[0].id)
    assert len(ids) == 2


def test_pending_orders_are_bounded():
    controller = Controller()
    p = controller.joined("p")
    for _ in range(MAX_ORDERS):
        assert controller.send_all(Clear()) == []
    (answer,) = controller.send_all(Clear())
    assert answer.message == cleared(p=LeftReason.TOO_MANY_ORDERS)
    assert len(orders_of(controller, p)) == MAX_ORDERS
    assert controller.count("orders_refused") == 1


def test_the_end_answers_whoever_waits_and_refuses_the_rest():
    controller = Controller()
    p = controller.joined("p")
    controller.send_all(Clear())
    ended, answer = controller.send_all(Shutdown())
    assert ended.message == Done()
    assert answer.message == cleared(p=LeftReason.NO_REPORT)
    assert controller.core.is_shutting_down
    refusal = controller.send(p.heartbeat())
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.CLOSING
    assert not isinstance(controller.send(GetStatus()), Refusal)


def test_a_server_that_is_told_to_stop_answers_whoever_waits():
    controller = Controller()
    controller.joined("p")
    controller.send_all(Clear())
    (answer,) = controller.core.shut_down(controller.now_s)
    assert isinstance(answer.message, Cleared)
