"""Threads end once, whoever is first: the thread itself or who stops it."""

import threading
import time

import pytest

from p2p.backend.bond import BondThread
from p2p.wire.context import WireContext
from p2p.wire.decoders import CONTROLLER_REQUESTS
from p2p.wire.responder import Responder
from tests.unit.backend.builders import instance_core

pytestmark = pytest.mark.e2e


def test_stopping_a_bond_whose_thread_has_just_ended_is_no_error():
    wire = WireContext(None)
    bond = BondThread(
        instance_core("a"), threading.RLock(), wire, "tcp://127.0.0.1:9", time.monotonic
    )
    bond._stopping = True  # as `stop` does first; the thread may see it before `stop` goes on
    bond.wake()
    bond._thread.join(10)
    assert not bond._thread.is_alive()
    bond.stop()
    wire.close()


def test_waking_a_bond_that_was_stopped_is_nothing():
    wire = WireContext(None)
    bond = BondThread(
        instance_core("a"), threading.RLock(), wire, "tcp://127.0.0.1:9", time.monotonic
    )
    bond.stop()
    bond.wake()  # as a put that was under way when the backend closed
    wire.close()


def test_stopping_a_responder_that_has_ended_is_nothing():
    wire = WireContext(None)
    responder = Responder(wire, "tcp://127.0.0.1:*", CONTROLLER_REQUESTS)
    responder.stop()
    serving = threading.Thread(target=responder.serve, args=(None,))
    serving.start()
    serving.join(10)
    assert not serving.is_alive()
    responder.stop()  # a signal that comes late
    wire.close()
