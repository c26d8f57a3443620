"""Who else is in the namespace."""

import msgspec

from p2p.wire.messages import ListPeers, PeerList, Refusal, RefusalCode
from tests.unit.controller.instances import NAMESPACE, Controller

OTHER = msgspec.structs.replace(NAMESPACE, weights_digest="other")


def _peers(controller, instance):
    question = ListPeers(instance=instance.name, incarnation=instance.incarnation)
    (answer,) = controller.send_all(question)
    assert isinstance(answer.message, PeerList)
    return answer.message


def _names(controller, instance):
    return [peer.instance for peer in _peers(controller, instance).peers]


def test_members_of_the_same_namespace_are_listed():
    controller = Controller()
    p, q = controller.joined("p", 1), controller.joined("q", 1)
    other = controller.joined("o", 1, namespace=OTHER)
    assert _names(controller, p) == _names(controller, q) == ["p", "q"]
    assert _names(controller, other) == ["o"]


def test_every_answer_to_a_member_tells_which_list_is_the_newest():
    controller = Controller()
    p = controller.joined("p", 1)
    first = controller.status_after(p.heartbeat()).peers
    assert _peers(controller, p).version == first
    q = controller.joined("q", 1)
    second = controller.status_after(p.heartbeat()).peers
    assert second > first
    assert _peers(controller, p).version == second
    controller.send_all(q.deregister())
    assert controller.status_after(p.heartbeat()).peers > second
    assert _names(controller, p) == ["p"]


def test_a_stranger_is_refused():
    controller = Controller()
    question = ListPeers(instance="x", incarnation=1)
    (answer,) = controller.send_all(question)
    assert answer.message == Refusal(code=RefusalCode.UNKNOWN_INSTANCE, field="instance")
