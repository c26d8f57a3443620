"""The thread of the bond ends once, whoever is first: the thread itself or who stops it."""

import threading
import time

import pytest

from p2p.backend.bond import BondThread
from p2p.wire.context import WireContext
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
