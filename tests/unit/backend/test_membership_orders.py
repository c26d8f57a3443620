"""Being refused, outrun or fenced by the controller, its orders, and the farewell."""

import msgspec
import pytest

from p2p.backend.actions import ShortReason
from p2p.backend.fetch_log import Ended
from p2p.backend.membership import BondState
from p2p.wire.messages import (
    Deregister,
    DropAll,
    FeedStatus,
    FetchReports,
    Heartbeat,
    Left,
    LeftReason,
    OrderResult,
    Refusal,
    RefusalCode,
    Register,
    Want,
)
from tests.unit.backend.builders import NAMESPACE, instance_core, prompt, put
from tests.unit.backend.tiny_controller import TinyController

ORDER = DropAll(id=3, namespace=NAMESPACE.id)


def _stale(ours):
    return Refusal(code=RefusalCode.STALE_INCARNATION, field="incarnation", ours=ours)


def _bonded():
    core, controller = instance_core("a"), TinyController()
    (register,) = core.membership.poll(0.0, 0)
    core.membership.on_answer(controller.take(register), 0.0)
    return core, controller


def _exchange(core, controller, now_s):
    core.carry_out_orders(now_s)
    for message in core.membership.poll(now_s, 0):
        core.membership.on_answer(controller.take(message), now_s)


def _beat(core, now_s):
    beat = core.membership.poll(now_s, 0)[-1]
    assert isinstance(beat, Heartbeat)
    return beat


def _answering(beat, status):
    return msgspec.structs.replace(status, beat=beat.beat)


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
        "view_hash": core.feed.view_hash, "num_chunks": 2, "load_bytes": 77, "beat": 1,
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
    assert controller.done == {3: OrderResult(id=3, num_chunks=4)}
    assert (len(core.index), controller.orders) == (0, [])
    assert _beat(core, 9.0).orders_done == (), "the controller has seen it"


def test_an_order_that_was_done_is_not_done_again_while_the_report_is_under_way():
    core, _ = _bonded()
    status = FeedStatus(epoch=1, acked_seq=0, orders=(ORDER,))
    core.membership.on_answer(_answering(_beat(core, 0.0), status), 0.0)
    core.carry_out_orders(0.0)
    put(core, prompt(2))
    core.membership.on_answer(_answering(_beat(core, 0.0), status), 0.0)
    core.carry_out_orders(0.0)
    assert len(core.index) == 2
    assert _beat(core, 9.0).orders_done == (OrderResult(id=3),)


def test_an_order_for_another_namespace_drops_nothing_and_is_reported():
    core, controller = _bonded()
    put(core, prompt(2))
    controller.orders = [msgspec.structs.replace(ORDER, namespace="other")]
    _exchange(core, controller, 0.0)
    _exchange(core, controller, 0.0)
    left = (Left(reason=LeftReason.OTHER_NAMESPACE),)
    assert (len(core.index), controller.done) == (2, {3: OrderResult(id=3, left=left)})


def test_a_controller_that_wants_a_registration_gets_one():
    core, _ = _bonded()
    core.membership.on_answer(FeedStatus(epoch=1, acked_seq=0, want=Want.REGISTER), 0.0)
    assert core.membership.state is BondState.ALONE
    assert isinstance(core.membership.poll(0.0, 0)[0], Register)


def test_the_farewell_names_this_start():
    core, _ = _bonded()
    assert core.membership.farewell(0.0) == [Deregister(instance="a", incarnation=1)]


def test_what_was_not_reported_is_told_before_the_farewell():
    core, _ = _bonded()
    core.fetch_log.note(Ended("r", "", 1, 0, 0, ShortReason.CLOSED, "", b"k", 0.0), 0.0)
    reports, last = core.membership.farewell(0.0)
    assert isinstance(reports, FetchReports)
    assert [one.request for one in reports.reports] == ["r"]
    assert isinstance(last, Deregister)


def _status(beat, *orders, **fields):
    return FeedStatus(epoch=1, acked_seq=0, orders=orders, beat=beat.beat, **fields)


def test_an_answer_that_was_under_way_for_too_long_orders_nothing():
    core, _controller = _bonded()
    beat = _beat(core, 0.0)
    core.membership.on_answer(_status(beat, ORDER), 60.1)  # it was given 60 s to be heard
    assert core.membership.open_orders() == []
    core.membership.on_answer(_status(_beat(core, 61.0), ORDER), 61.5)
    assert core.membership.open_orders() == [ORDER]


def test_an_order_that_is_named_no_more_was_taken_back():
    core, _ = _bonded()
    core.membership.on_answer(_status(_beat(core, 0.0), ORDER), 0.0)
    core.membership.on_answer(FeedStatus(epoch=1, acked_seq=0), 0.1)
    assert core.membership.open_orders() == [ORDER], "no answer to a heartbeat: nothing is said"
    core.membership.on_answer(_status(_beat(core, 1.0)), 1.0)
    assert core.membership.open_orders() == []


def test_an_order_that_is_named_again_after_it_was_seen_is_reported_and_not_done():
    core, _ = _bonded()
    put(core, prompt(2))
    first, second = _beat(core, 0.0), _beat(core, 1.0)
    core.membership.on_answer(_status(first, ORDER), 1.0)
    core.carry_out_orders(1.0)
    core.membership.on_answer(_status(_beat(core, 1.0)), 1.1)
    put(core, prompt(2))
    core.membership.on_answer(_status(second, ORDER), 1.2)  # late
    core.carry_out_orders(1.2)
    assert len(core.index) == 2
    assert _beat(core, 3.0).orders_done == (OrderResult(id=3, num_chunks=2),)


def test_leaving_is_told_at_once_and_known_once_it_is_confirmed():
    core, _ = _bonded()
    member = core.membership
    assert not _beat(core, 0.0).is_leaving
    member.leave()
    assert member.has_leave_news
    assert not member.is_leave_known()
    beat = _beat(core, 0.0)
    assert beat.is_leaving
    assert not member.has_leave_news
    member.on_answer(_status(beat, is_leaving=True), 0.1)
    assert member.is_leave_known()


def test_without_a_controller_nobody_is_told():
    core = instance_core("a")
    core.membership.leave()
    assert core.membership.is_leave_known()


def test_a_heartbeat_says_how_much_is_pinned():
    core, _ = _bonded()
    for entry in put(core, prompt(3)):
        core.index.keep_until(entry, 9.0)
    assert _beat(core, 0.0).num_pinned == 3
