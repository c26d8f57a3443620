"""Instances in processes of their own share chunks over NIXL; holders and the controller die."""

import socket
import time
from collections.abc import Iterator

import pytest

from p2p.backend import ArraySource, FetchResult, P2PBackend, ShortReason
from tests.e2e.controller_process import ControllerProcess, until
from tests.e2e.holder_process import (
    LAYOUT,
    HolderProcess,
    content_of,
    keys_of,
    start_backend,
)

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NUM_CHUNKS = 32
KEYS = keys_of(NUM_CHUNKS)


@pytest.fixture
def controller() -> Iterator[ControllerProcess]:
    with ControllerProcess() as process:
        yield process


@pytest.fixture
def channel() -> str:
    return "nixl"


OVER_ALL = pytest.mark.parametrize("channel", ["nixl", "shm", "tcp"])


@pytest.fixture
def reader(controller: ControllerProcess, channel: str) -> Iterator[P2PBackend]:
    slots = 2 * NUM_CHUNKS
    with start_backend(controller.address, "reader", slots, channel=channel) as backend:
        assert backend.wait_advertised(10)
        yield backend


def is_content(result: FetchResult, *seeds: int) -> bool:
    """True if every chunk is, whole, what one of these holders stored."""
    contents = [content_of(seed, NUM_CHUNKS) for seed in seeds]
    return all(
        any((chunk == content[number]).all() for content in contents)
        for number, chunk in enumerate(result.chunks)
    )


@OVER_ALL
def test_chunks_are_read_from_a_holders_memory(controller, reader, channel):
    with HolderProcess(controller.address, "a", 1, NUM_CHUNKS, channel):
        hit = reader.locate(KEYS)
        assert (hit.num_chunks, hit.holders) == (NUM_CHUNKS, ("a",))
        with reader.fetch(KEYS, budget_s=10) as result:
            assert (result.num_chunks, result.reason) == (NUM_CHUNKS, ShortReason.COMPLETE)
            assert is_content(result, 1)
            (source,) = result.sources
            assert (source.instance, source.num_chunks) == ("a", NUM_CHUNKS)
            assert source.channel == channel
            assert (
                source.transport
                in {"nixl": {"cma", "tcp"}, "shm": {"shm"}, "tcp": {"tcp"}}[channel]
            )
        with reader.fetch(KEYS, budget_s=10) as again:
            assert (again.num_local, again.num_bytes) == (NUM_CHUNKS, 0)


def test_a_reader_becomes_a_holder(controller, reader):
    with HolderProcess(controller.address, "a", 1, NUM_CHUNKS) as first:
        reader.fetch(KEYS, budget_s=10).release()
        assert reader.wait_advertised(10)
        first.kill()
        with start_backend(controller.address, "third", NUM_CHUNKS) as third:
            with third.fetch(KEYS, budget_s=10) as result:
                assert result.num_chunks == NUM_CHUNKS
                assert is_content(result, 1)


class KillOnArrival:
    """Kills a holder as soon as a quarter of a fetch's chunks has arrived."""

    def __init__(self) -> None:
        self.victim: HolderProcess | None = None
        self.num_arrived = 0

    def on_phase(self, phase: str, num_arrived: int, num_chunks: int) -> None:
        if phase == "mid_transfer" and self.victim and num_arrived * 4 >= num_chunks:
            self.victim.kill()
            self.victim = None
            self.num_arrived = num_arrived


@pytest.fixture
def hooked(
    controller: ControllerProcess, channel: str
) -> Iterator[tuple[P2PBackend, KillOnArrival]]:
    hook = KillOnArrival()
    slots = 2 * NUM_CHUNKS
    with start_backend(controller.address, "hooked", slots, channel=channel) as plain:
        config = plain.config
    with P2PBackend.start(config, LAYOUT, hook) as backend:
        assert backend.wait_advertised(10)
        yield backend, hook


@OVER_ALL
def test_a_fetch_goes_on_at_the_next_holder_when_one_is_killed_in_the_middle(
    controller, hooked, channel
):
    backend, hook = hooked
    with (
        HolderProcess(controller.address, "a", 1, NUM_CHUNKS, channel) as a,
        HolderProcess(controller.address, "b", 2, NUM_CHUNKS, channel) as b,
    ):
        first = backend.fetch(KEYS[:1], budget_s=10)
        hook.victim = a if first.sources[0].instance == "a" else b
        first.release()
        with backend.fetch(KEYS, budget_s=10) as result:
            assert hook.num_arrived, "the kill did not happen"
            assert (result.num_chunks, result.reason) == (NUM_CHUNKS, ShortReason.COMPLETE)
            assert is_content(result, 1, 2)
        assert backend.counters()["slots_quarantined"] == 0


@OVER_ALL
def test_the_verified_prefix_is_delivered_when_the_only_holder_is_killed(
    controller, hooked, channel
):
    backend, hook = hooked
    with HolderProcess(controller.address, "a", 1, NUM_CHUNKS, channel) as a:
        hook.victim = a
        started_s = time.monotonic()
        with backend.fetch(KEYS, budget_s=5) as result:
            assert time.monotonic() - started_s < 5.5
            assert hook.num_arrived <= result.num_chunks < NUM_CHUNKS
            assert result.reason is not ShortReason.COMPLETE
            assert is_content(result, 1)


def test_a_holder_that_restarts_under_its_id_is_read_anew(controller, reader):
    with HolderProcess(controller.address, "a", 1, NUM_CHUNKS) as first:
        reader.fetch(KEYS[:4], budget_s=10).release()
        first.kill()
        reader.clear()
        with HolderProcess(controller.address, "a", 2, NUM_CHUNKS):
            with reader.fetch(KEYS, budget_s=10) as result:
                assert (result.num_chunks, result.reason) == (NUM_CHUNKS, ShortReason.COMPLETE)
                assert is_content(result, 2)


def test_chunks_are_found_again_after_the_controller_restarted():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        bind = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    with ControllerProcess(bind=bind) as first, HolderProcess(first.address, "a", 1, NUM_CHUNKS):
        with start_backend(first.address, "reader", NUM_CHUNKS) as reader:
            assert reader.wait_advertised(10)
            first.process.kill()
            first.wait()
            with reader.fetch(KEYS, budget_s=0.5) as alone:  # known peers are asked directly
                assert alone.num_chunks in {0, NUM_CHUNKS}
                assert is_content(alone, 1)
            reader.clear()
            with ControllerProcess(bind=bind):
                assert until(lambda: reader.locate(KEYS).num_chunks == NUM_CHUNKS)
                with reader.fetch(KEYS, budget_s=10) as result:
                    assert result.num_chunks == NUM_CHUNKS
                    assert is_content(result, 1)


def test_the_asynchronous_twin_polls_to_the_same_result(controller, reader):
    with HolderProcess(controller.address, "a", 1, NUM_CHUNKS):
        handle = reader.submit_fetch(KEYS, budget_s=10)
        result = handle.wait(10)
        assert result is not None
        with result:
            assert result.num_chunks == NUM_CHUNKS
            assert is_content(result, 1)
        keys = keys_of(NUM_CHUNKS + 2)[-2:]
        put = reader.submit_put(keys, ArraySource(content_of(3, 2), LAYOUT))
        report = put.wait(10)
        assert report is not None
        assert report.num_stored == 2


def test_an_engine_that_computes_faster_than_peers_deliver_is_left_to_it(controller, reader):
    with HolderProcess(controller.address, "a", 1, NUM_CHUNKS):
        num_tokens = NUM_CHUNKS * LAYOUT.chunk_tokens
        with reader.fetch(KEYS, budget_s=10) as first:  # measures the link
            assert first.num_chunks == NUM_CHUNKS
            seconds = first.seconds
        reader.clear()
        reader.report_prefill(num_tokens, seconds / 100)
        with reader.fetch(KEYS, budget_s=10) as left:
            assert (left.num_chunks, left.reason) == (0, ShortReason.RECOMPUTE_CHOSEN)
        for _ in range(50):
            reader.report_prefill(num_tokens, seconds * 100)
        with reader.fetch(KEYS, budget_s=10) as read:
            assert read.num_chunks == NUM_CHUNKS
            assert is_content(read, 1)
