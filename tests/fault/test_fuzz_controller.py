"""Ten thousand wrong messages and bare bytes later, the controller still answers correctly."""

import socket
import time
from contextlib import closing

import pytest
import zmq

from p2p.errors import ProtocolError
from p2p.keys import join_keys
from p2p.wire.codec import MAX_BODY_BYTES, BodyDecoder, encode, encode_body
from p2p.wire.context import WireContext
from p2p.wire.messages import ControllerRequest, FeedStatus, Locate, Registered, Shutdown, Want
from p2p_controller.client import ControllerClient
from tests.e2e.controller_process import ControllerProcess
from tests.fault.fuzz import Fuzzer
from tests.unit.controller.instances import NAMESPACE, SENDER, Controller, Instance, keys
from tests.unit.wire import samples

pytestmark = [pytest.mark.fault, pytest.mark.slow]
NUM_MESSAGES = 10_000
NUM_STREAMS = 200
VALID = [m for m in samples.CONTROLLER_REQUESTS if not isinstance(m, Shutdown)]


def fuzzer(seed: int) -> Fuzzer:
    foreign = [*samples.CONTROLLER_REPLIES, *samples.PEER_REQUESTS, *samples.PEER_REPLIES]
    return Fuzzer(seed, VALID, foreign)


def send_all(address: str, seed: int) -> int:
    """Sends wrong messages as fast as they are taken; returns how many answers came back."""
    num_answers = 0
    with closing(WireContext()) as wire:
        dealer = wire.dealer(address)
        dealer.setsockopt(zmq.SNDTIMEO, 20_000)
        for frames in fuzzer(seed).frames(NUM_MESSAGES):
            dealer.send_multipart(frames)
            while dealer.poll(0):
                dealer.recv_multipart()
                num_answers += 1
        while dealer.poll(500):
            dealer.recv_multipart()
            num_answers += 1
    return num_answers


def send_streams(address: str, seed: int) -> None:
    host, port = address.removeprefix("tcp://").split(":")
    for stream in fuzzer(seed).streams(NUM_STREAMS):
        with socket.create_connection((host, int(port)), timeout=5.0) as bare:
            bare.sendall(stream)


def check_works(client: ControllerClient, instance: Instance) -> None:
    """Goes through a whole life of an instance and compares every answer."""
    instance.epoch = client.ask(instance.register(), Registered).epoch
    for change, numbers in ((instance.admit, (1, 2, 3, 4)), (instance.evict, (2,))):
        assert client.ask(change(*numbers), FeedStatus).acked_seq == instance.last_seq
    assert client.ask(instance.heartbeat(), FeedStatus).want is Want.NOTHING
    assert [(r.start, r.count) for r in client.locate(NAMESPACE.id, keys(3, 4, 5)).runs] == [(0, 2)]
    assert client.locate(NAMESPACE.id, keys(2)).runs == ()


def test_a_controller_outlives_wrong_messages_and_counts_them():
    with ControllerProcess() as process:
        with ControllerClient(process.address, timeout_s=20.0) as client:
            check_works(client, Instance("before"))
        num_answers = send_all(process.address, seed=1)
        send_streams(process.address, seed=2)
        with ControllerClient(process.address, timeout_s=20.0) as client:
            check_works(client, Instance("after"))
            counters = client.status().counters
        assert process.process.poll() is None
        assert counters["dropped_frames"] > 500
        assert counters["dropped_body"] > 3000
        assert counters["dropped_version"] > 500
        assert num_answers > 4000  # who could be told was told
        status, log = process.end()
    assert status == 0
    assert "Traceback" not in log
    assert log.count("\n") < 200  # wrong messages do not fill the disk


def test_a_stopped_reader_costs_only_itself():
    """Somebody asks without ever taking an answer: everybody else is served on."""
    with ControllerProcess() as process, closing(WireContext()) as wire:
        greedy = wire.dealer(process.address)
        greedy.setsockopt(zmq.RCVHWM, 1)
        blob, key_bytes = join_keys(keys(*range(100)))
        question = Locate(namespace=NAMESPACE.id, keys=blob, key_bytes=key_bytes)
        with ControllerClient(process.address, timeout_s=20.0) as client:
            for number in range(1, 20_000):
                try:
                    greedy.send(encode(question, number), zmq.NOBLOCK)
                except zmq.Again:
                    break
            started_s = time.monotonic()
            check_works(client, Instance("other"))
            assert time.monotonic() - started_s < 15.0


@pytest.mark.parametrize("seed", range(20))
def test_the_core_takes_any_message_that_decodes(seed):
    """Mutated messages that are right by accident reach the core, in process and many times."""
    decoder: BodyDecoder[ControllerRequest] = BodyDecoder(ControllerRequest)
    controller = Controller(epoch=5)  # the samples' epoch
    register = Instance("p", incarnation=3).register()
    num_taken = 0
    for frames in fuzzer(seed).frames(3000):
        try:
            message = decoder.decode(frames[-1][10:])  # behind the header, right or wrong
        except ProtocolError:
            continue
        if num_taken % 50 == 0:
            controller.join(Instance(f"p{num_taken}"))
            controller.core.handle(SENDER, register, controller.now_s)
        if isinstance(message, Shutdown):
            continue
        num_taken += 1
        for outgoing in controller.core.handle(SENDER, message, controller.now_s):
            encode_body(outgoing.message)
        controller.now_s += 0.01
        controller.core.tick(controller.now_s)
    assert num_taken > 100


def test_a_message_beyond_the_transports_limit_costs_the_sender_its_connection():
    with ControllerProcess() as process, closing(WireContext()) as wire:
        dealer = wire.dealer(process.address)
        dealer.send(bytes(2 * MAX_BODY_BYTES + 1))
        with ControllerClient(process.address, timeout_s=20.0) as client:
            check_works(client, Instance("other"))
        assert process.end()[0] == 0
