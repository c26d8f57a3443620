"""What the pool holds, as vLLM publishes it for routers outside."""

import time
from contextlib import contextmanager

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm")

import msgspec
import zmq
from vllm.distributed.kv_events import BlockRemoved, BlockStored, KVEventBatch

from examples.p2p_sharing.cluster import free_port
from tests.e2e.vllm.fixtures import CHUNK, introduce, prompt_of

pytestmark = [pytest.mark.vllm, pytest.mark.e2e, pytest.mark.slow]

_DECODER = msgspec.msgpack.Decoder(KVEventBatch)


@contextmanager
def listening(port):
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.subscribe("")
        socket.connect(f"tcp://127.0.0.1:{port}")
        time.sleep(0.5)  # a subscription has no answer
        yield socket


def events_of_the_pool(socket, engine):
    """Returns what an engine tells of the host's memory; with one step more, so that it does."""
    engine.settle()
    engine.one(prompt_of(3), 1)
    events = []
    while socket.poll(1000):
        batch = _DECODER.decode(socket.recv_multipart()[-1])
        events += [event for event in batch.events if event.medium == "CPU"]
    return events


def told(port):
    return {
        "kv_events_config": {
            "enable_kv_cache_events": True,
            "publisher": "zmq",
            "endpoint": f"tcp://*:{port}",
        }
    }


def test_routers_hear_of_what_comes_into_a_pool_and_goes(a, engines, controller):
    port = free_port()
    engine = engines(controller, "told", options=told(port))
    introduce(a, engine)
    engine.settle()
    with listening(port) as socket:
        computed = prompt_of(3 * CHUNK + 5)
        engine.one(computed, 1, salt="red")
        stored = events_of_the_pool(socket, engine)
        assert all(isinstance(event, BlockStored) for event in stored)
        assert [token for event in stored for token in event.token_ids] == computed[: 3 * CHUNK]
        hashes = [each for event in stored for each in event.block_hashes]
        assert [event.parent_block_hash for event in stored] == [None, *hashes[:-1]]
        assert {event.block_size for event in stored} == {CHUNK}
        assert stored[0].extra_keys == [("red",)]

        fetched = prompt_of(2 * CHUNK + 5)
        a.one(fetched, 1)
        a.settle()
        assert engine.one(fetched, 1).num_cached == 2 * CHUNK
        read = events_of_the_pool(socket, engine)
        assert [token for event in read for token in event.token_ids] == fetched[: 2 * CHUNK]

        engine.call("clear")
        gone = events_of_the_pool(socket, engine)
        assert all(isinstance(event, BlockRemoved) for event in gone)
        removed = {each for event in gone for each in event.block_hashes}
        assert removed >= {each for event in [*stored, *read] for each in event.block_hashes}
        assert engine.one(computed, 1, salt="red").num_cached == 3 * CHUNK  # the engine's own


def test_an_engine_that_nobody_listens_to_keeps_no_events(a):
    assert a.call("num_watched") is None
