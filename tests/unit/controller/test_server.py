"""The clock of the server's loop, and its epochs."""

import time

import pytest

from p2p.errors import ConfigError
from p2p.wire.messages import FeedStatus, Locate, Located, Registered
from p2p_controller.server import ControllerServer, ListeningClock, new_epoch
from p2p_controller.settings import ControllerSettings
from tests.unit.controller.instances import NAMESPACE, SENDER, Instance, key


def test_time_in_which_the_process_stood_still_does_not_count(monkeypatch):
    now_s = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    clock = ListeningClock()
    seen = []
    for passed_s in (0.5, 1.5, 60.0, 0.5):
        now_s[0] += passed_s
        seen.append(clock.now_s())
    assert seen == [100.5, 102.0, 102.0, 102.5]


def test_epochs_differ_and_fit_into_a_message():
    epochs = {new_epoch() for _ in range(20)}
    assert len(epochs) > 1
    assert all(0 < epoch < 1 << 63 for epoch in epochs)


def test_a_server_that_never_served_gives_its_address_back():
    server = ControllerServer(ControllerSettings(bind="tcp://127.0.0.1:*"))
    with pytest.raises(ConfigError, match=r"controller\.bind"):
        ControllerServer(ControllerSettings(bind=server.address))
    server.close()
    again = ControllerServer(ControllerSettings(bind=server.address))
    again.close()


def test_a_page_waits_for_the_loop_and_a_question_does_not():
    server = ControllerServer(ControllerSettings(bind="tcp://127.0.0.1:*"))
    try:
        p = Instance("p")
        (registered,) = server.handle(SENDER, p.register())
        assert isinstance(registered.message, Registered)
        p.epoch = registered.message.epoch
        page = p.page(1, 0, list(range(1000)), last=True, start_seq=0)
        assert list(server.handle(SENDER, page)) == []
        assert server.wait_s() == 0
        question = Locate(namespace=NAMESPACE.id, keys=key(1), key_bytes=32)
        (answer,) = server.handle(SENDER, question)
        assert isinstance(answer.message, Located)
        (status,) = server.tick()
        assert isinstance(status.message, FeedStatus)
        assert status.message.synced_page == 0
        assert list(server.tick()) == []
        assert server.wait_s() > 0
    finally:
        server.close()
