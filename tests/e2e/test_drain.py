"""An instance that leaves gives what it has to those that stay."""

import time

import pytest

from p2p.backend import P2PBackend, ShortReason
from p2p.errors import ArgumentError
from p2p.keys import chunk_keys
from tests.e2e.controller_process import ControllerProcess, until
from tests.e2e.holder_process import LAYOUT, content_of, start_backend

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NUM_PROMPTS = 6
NUM_CHUNKS = 16
PROMPTS = [
    chunk_keys(
        range(NUM_CHUNKS * LAYOUT.chunk_tokens), LAYOUT.chunk_tokens, salt=f"prompt {number}"
    )
    for number in range(NUM_PROMPTS)
]


@pytest.fixture
def controller():
    with ControllerProcess() as process:
        yield process


def _start(controller: ControllerProcess, name: str, num_prompts: int) -> P2PBackend:
    backend = start_backend(controller.address, name, num_prompts * NUM_CHUNKS)
    assert backend.wait_advertised(10)
    return backend


def _fill(backend: P2PBackend) -> None:
    for number, keys in enumerate(PROMPTS):
        backend.put(keys, content_of(number, NUM_CHUNKS))
    assert backend.wait_advertised(10)


def _wait_for_peers(backend: P2PBackend, count: int) -> None:
    assert until(lambda: backend.counters()["peers_known"] >= count, 10)


def _num_hits(reader: P2PBackend) -> int:
    hits = 0
    for number, keys in enumerate(PROMPTS):
        with reader.fetch(keys, budget_s=10) as result:
            content = content_of(number, NUM_CHUNKS)
            assert all((chunk == content[i]).all() for i, chunk in enumerate(result.chunks))
            hits += result.num_chunks
    return hits


def test_peers_keep_what_a_drained_instance_had(controller):
    leaving = _start(controller, "leaving", NUM_PROMPTS)
    with _start(controller, "x", NUM_PROMPTS) as x, _start(controller, "y", NUM_PROMPTS) as y:
        _fill(leaving)
        _wait_for_peers(leaving, 2)
        report = leaving.drain(20)
        leaving.close()
        assert report.num_chunks == report.num_kept == NUM_PROMPTS * NUM_CHUNKS
        assert report.num_peers == 2
        assert x.wait_advertised(10)
        assert y.wait_advertised(10)
        with _start(controller, "reader", NUM_PROMPTS) as reader:
            assert _num_hits(reader) >= 0.9 * NUM_PROMPTS * NUM_CHUNKS


def test_without_room_the_prompts_used_last_are_kept(controller):
    leaving = _start(controller, "leaving", NUM_PROMPTS)
    with _start(controller, "x", 2) as x:
        _fill(leaving)
        _wait_for_peers(leaving, 1)
        for keys in (PROMPTS[0], PROMPTS[3]):
            leaving.fetch(keys).release()
        leaving.drain(10)
        leaving.close()
        with x.fetch(PROMPTS[3]) as result:
            assert (result.num_local, result.reason) == (NUM_CHUNKS, ShortReason.COMPLETE)


def test_a_drain_with_nobody_there_returns_at_once(controller):
    with _start(controller, "leaving", NUM_PROMPTS) as leaving:
        _fill(leaving)
        report = leaving.drain(20)
        assert (report.num_kept, report.num_peers) == (0, 0)
        assert report.seconds < 5


def test_a_drain_takes_no_longer_than_it_may(controller):
    with _start(controller, "leaving", NUM_PROMPTS) as leaving:
        with _start(controller, "x", NUM_PROMPTS):
            _fill(leaving)
            _wait_for_peers(leaving, 1)
            began_s = time.monotonic()
            leaving.drain(0.05)
            assert time.monotonic() - began_s < 1.0
        with pytest.raises(ArgumentError, match="timeout_s"):
            leaving.drain(0)
