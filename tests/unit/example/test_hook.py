"""The hook pauses once, in the middle of a transfer, at its number of chunks."""

import pytest

from examples.p2p_sharing.hook import PauseHook
from examples.p2p_sharing.messages import Paused, Quit, Resume
from examples.p2p_sharing.transport import expected_transport


class FakePort:
    def __init__(self, answer):
        self.sent = []
        self._answer = answer

    def send(self, event):
        self.sent.append(event)

    def receive(self):
        return self._answer


def run_fetch(hook):
    hook.on_phase("after_lease", 0, 27)
    for num_arrived in (2, 4, 6, 8, 10):
        hook.on_phase("mid_transfer", num_arrived, 27)
    hook.on_phase("after_commit", 27, 27)


def test_it_pauses_once_where_it_was_told():
    port = FakePort(Resume())
    hook = PauseHook(port)
    hook.arm(7)
    run_fetch(hook)
    run_fetch(hook)
    assert port.sent == [Paused(8, 27)]


@pytest.mark.parametrize("after_chunks", [0, 11])
def test_it_does_not_pause_unasked(after_chunks):
    port = FakePort(Resume())
    hook = PauseHook(port)
    hook.arm(after_chunks)
    run_fetch(hook)
    assert port.sent == []


def test_a_driver_that_is_gone_does_not_hold_it():
    hook = PauseHook(FakePort(Quit()))
    hook.arm(1)
    run_fetch(hook)


def test_the_kernel_is_asked_for_the_transport():
    assert expected_transport() in {"cma", "tcp"}
