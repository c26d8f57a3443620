"""Being refused, outrun or fenced by the controller, its orders, and the farewell."""

import msgspec
import pytest

from p2p.backend.membership import BondState
from p2p.wire.messages import (
    Deregister,
    FeedStatus,
    Heartbeat,
    Order,
    Refusal,
    RefusalCode,
    Register,
    Want,
)
from tests.unit.backend.builders import NAMESPACE, instance_core, prompt, put
from tests.unit.backend.tiny_controller import TinyController

ORDER = Order(id=3, namespace=NAMESPACE.id)


def _stale(ours):
    return Refusal(code=RefusalCode.STALE_INCARNATION, field="incarnation", ours=ours)


def _bonded():
    core, controller = instance_core("a"), TinyController()
    (register,) = core.membership.poll(0.0, 0)
    core.membership.on_answer(controller.take(register), 0.0)
    return core, controller


def _exchange(core, controller, now_s):
    core.carry_out_orders()
    for message in core.membership.poll(now_s, 0):
        core.membership.on_answer(controller.take(message), now_s)


def _beat(core, now_s):
    beat = core.membership.poll(now_s, 0)[-1]
    assert isinstance(beat, Heartbeat)
    return beat


def test_at_its_first_start_an_instance_goes_beyond_a_higher_incarnation():
    core = instance_core("a", incarnation=5)
    core.membership.poll(0.0, 0)
    core.membership.on_answer(_stale("41"), 0.0)
    (again,) = core.membership.poll(0.0, 0)
    assert isinstance(again, Register)
    assert again.incarnation == core.identity.incarnation == 42


def test_a_later_start_elsewhere_fences_a_bonded_instance_for_good():
    core, _ = _bonded()
    core.membership.on_answer(_stale("41"), 0.0)
    assert core.membership.state is BondState.FENCED
    assert core.membership.poll(1000.0, 0) == []
    assert core.membership.next_deadline_s(1000.0) > 1000.0
    assert core.identity.incarnation == 1


@pytest.mark.parametrize("code", [RefusalCode.NAMESPACE, RefusalCode.LAYOUT, RefusalCode.MALFORMED])
def test_a_registration_that_is_refused_is_not_repeated(code):
    core = instance_core("a")
    core.membership.poll(0.0, 0)
    refusal = Refusal(code=code, field="layout")
    core.membership.on_answer(refusal, 0.0)
    assert core.membership.state is BondState.REFUSED
    assert core.membership.refusal == refusal
    assert core.membership.poll(1000.0, 0) == []


def test_a_heartbeat_says_how_much_is_here_and_lent():
    core, _ = _bonded()
    put(core, prompt(2))
    beat = core.membership.poll(0.0, load_bytes=77)[-1]
    assert msgspec.to_builtins(beat) == {
        "type": "Heartbeat", "instance": "a", "incarnation": 1, "epoch": 1, "last_seq": 2,
        "view_hash": core.feed.view_hash, "num_chunks": 2, "load_bytes": 77,
    }  # fmt: skip


def test_heartbeats_come_at_the_pace_that_the_controller_names():
    core, controller = _bonded()
    _exchange(core, controller, 0.0)
    assert core.membership.next_deadline_s(0.0) == 1.0
    assert core.membership.poll(0.999, 0) == []
    assert len(core.membership.poll(1.0, 0)) == 1


def test_an_order_is_carried_out_once_and_reported_until_that_was_seen():
    core, controller = _bonded()
    put(core, prompt(4))
    controller.orders = [ORDER]
    _exchange(core, controller, 0.0)
    _exchange(core, controller, 0.0)
    assert controller.done == {3: 4}
    assert (len(core.index), controller.orders) == (0, [])
    assert _beat(core, 9.0).orders_done == (), "the controller has seen it"


def test_an_order_that_was_done_is_not_done_again_while_the_report_is_under_way():
    core, _ = _bonded()
    status = FeedStatus(epoch=1, acked_seq=0, orders=(ORDER,))
    core.membership.on_answer(status, 0.0)
    core.carry_out_orders()
    put(core, prompt(2))
    core.membership.on_answer(status, 0.0)
    core.carry_out_orders()
    assert len(core.index) == 2
    assert _beat(core, 0.0).orders_done == ((3, 0),)


def test_an_order_for_another_namespace_drops_nothing_and_is_reported():
    core, controller = _bonded()
    put(core, prompt(2))
    controller.orders = [msgspec.structs.replace(ORDER, namespace="other")]
    _exchange(core, controller, 0.0)
    _exchange(core, controller, 0.0)
    assert (len(core.index), controller.done) == (2, {3: 0})


def test_a_controller_that_wants_a_registration_gets_one():
    core, _ = _bonded()
    core.membership.on_answer(FeedStatus(epoch=1, acked_seq=0, want=Want.REGISTER), 0.0)
    assert core.membership.state is BondState.ALONE
    assert isinstance(core.membership.poll(0.0, 0)[0], Register)


def test_the_farewell_names_this_start():
    core, _ = _bonded()
    assert core.membership.farewell() == Deregister(instance="a", incarnation=1)
