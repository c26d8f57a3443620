"""The service for peers outlives anything that is sent to it, counts it, and goes on serving."""

from contextlib import closing

import pytest
import zmq

from p2p.wire.context import WireContext
from tests.e2e.controller_process import ControllerProcess
from tests.e2e.holder_process import content_of, keys_of, start_backend
from tests.fault.fuzz import Fuzzer
from tests.unit.wire import samples

pytestmark = [pytest.mark.fault, pytest.mark.slow]
NUM_MESSAGES = 10_000
NUM_CHUNKS = 8


def send_all(address: str) -> None:
    foreign = [*samples.CONTROLLER_REPLIES, *samples.CONTROLLER_REQUESTS, *samples.PEER_REPLIES]
    fuzzer = Fuzzer(3, list(samples.PEER_REQUESTS), foreign)
    with closing(WireContext()) as wire:
        dealer = wire.dealer(address)
        dealer.setsockopt(zmq.SNDTIMEO, 20_000)
        for frames in fuzzer.frames(NUM_MESSAGES):
            dealer.send_multipart(frames)
            while dealer.poll(0):
                dealer.recv_multipart()
        while dealer.poll(500):
            dealer.recv_multipart()


def test_an_instance_outlives_wrong_messages_and_still_serves():
    keys, content = keys_of(NUM_CHUNKS), content_of(1, NUM_CHUNKS)
    with (
        ControllerProcess() as controller,
        start_backend(controller.address, "holder", NUM_CHUNKS) as holder,
        start_backend(controller.address, "reader", NUM_CHUNKS) as reader,
    ):
        holder.put(keys, content)
        assert holder.wait_advertised(10)
        send_all(holder.address)
        counts = holder.counters()
        assert counts["messages_dropped_body"] > 3000
        assert counts["messages_dropped_frames"] > 500
        assert counts["messages_dropped_version"] > 500
        with reader.fetch(keys, budget_s=10) as result:
            assert result.num_chunks == NUM_CHUNKS
            assert all((result.chunks[n] == content[n]).all() for n in range(NUM_CHUNKS))
