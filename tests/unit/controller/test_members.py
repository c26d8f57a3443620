"""Registering, falling silent, being forgotten, leaving, being fenced, and restarts."""

import msgspec

from p2p.wire.messages import (
    Done,
    InstanceList,
    ListInstances,
    Refusal,
    RefusalCode,
    Registered,
    Want,
)
from tests.unit.controller.instances import LAYOUT, NAMESPACE, Controller, Instance


def test_the_answer_names_the_epoch_and_how_often_to_report():
    controller = Controller(epoch=5, heartbeat_s=0.5, silent_after_s=2.0)
    reply = controller.send(Instance("p").register())
    assert reply == Registered(epoch=5, heartbeat_ms=500, expiry_ms=2000)


def test_a_silent_instance_is_not_returned_and_comes_back_with_its_entries():
    controller = Controller()
    p = controller.joined("p", 1)
    controller.wait(2.9)
    assert controller.runs(1) == [(0, 1, ["p"])]
    controller.wait(0.2)
    assert controller.runs(1) == []
    controller.send(p.heartbeat())
    assert controller.runs(1) == [(0, 1, ["p"])]
    assert controller.count("instances_silent") == 1
    assert controller.count("instances_returned") == 1


def test_silence_is_noticed_without_a_tick():
    controller = Controller()
    controller.joined("p", 1)
    controller.now_s += 3.0
    assert controller.runs(1) == []


def test_any_message_is_a_sign_of_life():
    controller = Controller()
    p = controller.joined("p", 1)
    for number in range(4):
        controller.wait(2.0)
        controller.send(p.admit(number + 2))
    assert controller.runs(1, 2) == [(0, 2, ["p"])]


def test_after_long_silence_everything_is_forgotten():
    controller = Controller()
    p = controller.joined("p", *range(100))
    controller.wait(61)
    state = controller.state()
    assert (state.num_instances, state.num_namespaces, state.num_keys) == (0, 0, 0)
    assert state.counters["instances_forgotten"] == 1
    assert controller.status_after(p.heartbeat()).want is Want.REGISTER


def test_an_instance_that_leaves_takes_its_entries_along():
    controller = Controller()
    p = controller.joined("p", 1)
    controller.joined("q", 1)
    assert controller.send(p.deregister()) == Done()
    assert controller.runs(1) == [(0, 1, ["q"])]
    assert controller.send(p.deregister()) == Done()


def test_a_new_incarnation_replaces_the_old_one_and_its_address_at_once():
    controller = Controller()
    old = controller.joined("p", 1, 2, address="tcp://10.0.0.1:1000")
    new = controller.join(Instance("p", incarnation=2, address="tcp://10.0.0.2:2000"))
    assert controller.runs(1) == []
    controller.send(new.admit(1))
    (holder,) = controller.locate(1).holders
    assert (holder.address, holder.incarnation) == ("tcp://10.0.0.2:2000", 2)
    for message in (old.heartbeat(), old.admit(3), old.register(), old.deregister()):
        reply = controller.send(message)
        assert isinstance(reply, Refusal)
        assert reply.code is RefusalCode.STALE_INCARNATION
        assert (reply.ours, reply.theirs) == ("2", "1")
    assert controller.is_equal(new)
    assert controller.count("incarnations_fenced") == 1
    assert controller.count("stale_incarnation") == 4


def test_an_older_incarnation_cannot_come_back_after_the_newer_one_left():
    controller = Controller()
    newer = controller.join(Instance("p", incarnation=5))
    controller.send(newer.deregister())
    reply = controller.send(Instance("p", incarnation=4).register())
    assert isinstance(reply, Refusal)
    assert reply.ours == "5"
    controller.join(Instance("p", incarnation=5))


def test_registering_again_starts_empty():
    controller = Controller()
    p = controller.joined("p", 1, 2)
    controller.join(p)
    assert controller.runs(1) == []
    status = controller.status_after(p.heartbeat())
    assert (status.acked_seq, status.want) == (0, Want.REPLAY)


def test_messages_of_strangers_are_told_to_register():
    controller = Controller(epoch=3)
    stranger = Instance("p", epoch=3)
    for message in (stranger.heartbeat(), stranger.admit(1)):
        status = controller.status_after(message)
        assert (status.epoch, status.want, status.acked_seq) == (3, Want.REGISTER, 0)
    newer = controller.join(Instance("q"))
    newer.incarnation = 2
    assert controller.status_after(newer.heartbeat()).want is Want.REGISTER
    assert controller.count("unregistered") == 3


def test_messages_of_another_epoch_change_nothing():
    controller = Controller(epoch=3)
    p = controller.joined("p", 1)
    p.epoch = 2
    status = controller.status_after(p.admit(2))
    assert (status.epoch, status.acked_seq) == (3, 1)
    assert controller.runs(1, 2) == [(0, 1, ["p"])]
    assert controller.count("other_epoch") == 1


def test_a_layout_that_cannot_be_is_refused_with_the_field():
    controller = Controller()
    odd = msgspec.structs.replace(LAYOUT, chunk_tokens=65)
    reply = controller.send(Instance("p", layout=odd).register())
    assert isinstance(reply, Refusal)
    assert (reply.code, reply.field, reply.theirs) == (RefusalCode.LAYOUT, "chunk_tokens", "65")


def test_who_is_new_is_refused_beyond_the_limits_and_who_is_known_comes_again():
    controller = Controller(max_instances=2, max_namespaces=1)
    other = msgspec.structs.replace(NAMESPACE, model="other")
    controller.joined("p", 1)
    reply = controller.send(Instance("q", namespace=other).register())
    assert isinstance(reply, Refusal)
    assert (reply.code, reply.field, reply.ours) == (RefusalCode.LIMIT, "max_namespaces", "1")
    controller.joined("q", 1)
    reply = controller.send(Instance("r").register())
    assert isinstance(reply, Refusal)
    assert (reply.code, reply.field, reply.ours) == (RefusalCode.LIMIT, "max_instances", "2")
    assert controller.count("registrations_refused") == 2
    again = controller.joined("p", 1, incarnation=2)
    assert controller.send(again.deregister()) == Done()
    controller.joined("r", 1)


def test_an_instance_may_come_back_with_another_namespace():
    controller = Controller()
    controller.joined("p", 1)
    other = msgspec.structs.replace(NAMESPACE, model="other")
    controller.joined("p", 1, incarnation=2, namespace=other)
    assert controller.runs(1) == []
    assert controller.locate(1, namespace=other).runs[0].count == 1


def test_the_list_shows_every_instance():
    controller = Controller()
    controller.joined("q", 1, 2)
    controller.wait(3.5)
    p = controller.joined("p")
    controller.send(p.heartbeat(load_bytes=9))
    listed = controller.send(ListInstances())
    assert isinstance(listed, InstanceList)
    seen = [(v.instance, v.state, v.num_chunks, v.load_bytes, v.synced) for v in listed.instances]
    assert seen == [("p", "alive", 0, 9, True), ("q", "silent", 2, 0, False)]


def test_answers_are_partial_until_everybody_is_back_and_in_step():
    controller = Controller(recovery_s=10.0)
    p = controller.joined("p", 1)
    assert controller.locate(1).partial
    controller.send(p.heartbeat())
    assert controller.locate(1).partial  # others may still come
    controller.now_s += 8
    q = controller.joined("q")
    controller.send(p.heartbeat())
    controller.now_s += 2.5
    controller.send(p.heartbeat())
    assert controller.locate(1).partial  # q is alive and was never in step
    controller.send(q.heartbeat())
    assert not controller.locate(1).partial
    controller.joined("late")
    assert not controller.locate(1).partial


def test_one_that_never_gets_in_step_does_not_spoil_answers_for_ever():
    controller = Controller(recovery_s=2.0)
    p = controller.join(Instance("p"))
    for _ in range(12):
        controller.wait(1.0)
        p.last_seq = 99
        controller.send(p.heartbeat())
    assert not controller.locate(1).partial
