"""Large messages wait, small ones pass them, and the order within a feed stays."""

from typing import TYPE_CHECKING

from p2p.wire.codec import RequestId
from p2p.wire.exchange import Sender
from p2p.wire.messages import GetStatus
from p2p_controller.backlog import _MAX_WAITING, Backlog
from tests.unit.controller.instances import Instance

if TYPE_CHECKING:
    from p2p.wire.messages import ControllerRequest

LARGE = range(1000)
P_ROUTE, Q_ROUTE = (Sender(route, RequestId(1)) for route in (b"p", b"q"))


def test_a_large_batch_waits_and_a_small_one_does_not():
    backlog, p = Backlog(), Instance("p")
    large = p.admit(*LARGE)
    assert backlog.takes(P_ROUTE, large)
    assert not backlog.takes(Q_ROUTE, Instance("q").admit(1, 2))
    assert len(backlog) == 1
    assert backlog.next() == (P_ROUTE, large)
    assert not backlog


def test_what_comes_behind_a_large_batch_of_the_same_feed_waits_too():
    backlog, p = Backlog(), Instance("p")
    messages: list[ControllerRequest] = [
        p.admit(*LARGE), p.evict(1), p.heartbeat(), p.register(), p.deregister()
    ]  # fmt: skip
    assert all(backlog.takes(P_ROUTE, message) for message in messages)
    assert not backlog.takes(Q_ROUTE, Instance("q").heartbeat())
    assert [backlog.next()[1] for _ in messages] == messages
    assert not backlog.takes(P_ROUTE, p.heartbeat())


def test_pages_wait_and_questions_never_do():
    backlog, p = Backlog(), Instance("p")
    assert backlog.takes(P_ROUTE, p.page(1, 0, list(LARGE), last=False, start_seq=0))
    assert not backlog.takes(P_ROUTE, GetStatus())


def test_a_backlog_of_many_pages_is_full():
    backlog, p = Backlog(), Instance("p")
    page = p.page(1, 0, list(LARGE), last=False, start_seq=0)
    for number in range(_MAX_WAITING):
        assert backlog.is_full == (number >= _MAX_WAITING)
        backlog.takes(P_ROUTE, page)
    assert backlog.is_full
    backlog.next()
    assert not backlog.is_full
