"""First contacts between real processes: made ahead, with the stopped and with the dead."""

import signal
import time
from collections.abc import Iterator

import pytest

from p2p.backend import BackendConfig, P2PBackend, ShortReason
from tests.e2e.controller_process import ControllerProcess, until
from tests.e2e.holder_process import LAYOUT, NAMESPACE, HolderProcess, keys_of

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
NUM_CHUNKS = 8
KEYS = keys_of(NUM_CHUNKS)
LINKED_S = 20.0


@pytest.fixture
def controller() -> Iterator[ControllerProcess]:
    with ControllerProcess() as process:
        yield process


@pytest.fixture
def reader(controller: ControllerProcess, request: pytest.FixtureRequest) -> Iterator[P2PBackend]:
    """A reader; the parameter is to how many members it links at the start."""
    config = BackendConfig(
        namespace=NAMESPACE,
        controller=controller.address,
        instance="reader",
        pool_bytes=2 * NUM_CHUNKS * LAYOUT.chunk_bytes,
        links_ahead=request.param,
    )
    with P2PBackend.start(config, LAYOUT) as backend:
        assert backend.wait_advertised(10)
        yield backend


def holder(controller: ControllerProcess) -> HolderProcess:
    return HolderProcess(controller.address, "a", 1, NUM_CHUNKS)


def num_links(reader: P2PBackend) -> int:
    return reader.counters()["links_made"]


@pytest.mark.parametrize("reader", [16], indirect=True)
def test_a_member_is_linked_before_anything_is_fetched(controller, reader):
    with holder(controller):
        assert until(lambda: num_links(reader) == 1, LINKED_S)
        result = reader.fetch(KEYS, budget_s=1.0)
        assert result.num_chunks == NUM_CHUNKS
        result.release()


@pytest.mark.parametrize("reader", [0], indirect=True)
def test_without_that_the_first_fetch_links(controller, reader):
    with holder(controller):
        assert until(lambda: reader.counters()["peers_known"] == 1, LINKED_S)
        time.sleep(1.5)
        assert num_links(reader) == 0
        assert reader.fetch(KEYS, budget_s=10.0).num_chunks == NUM_CHUNKS
        assert num_links(reader) == 1


@pytest.mark.parametrize("reader", [0], indirect=True)
def test_a_stopped_holder_costs_a_second_and_is_linked_when_it_goes_on(controller, reader):
    with holder(controller) as a:
        assert until(lambda: reader.locate(KEYS).num_chunks == NUM_CHUNKS, LINKED_S)
        a.process.send_signal(signal.SIGSTOP)
        result = reader.fetch(KEYS, budget_s=20.0)
        assert result.num_chunks == 0
        assert result.reason in {ShortReason.LINK_SLOW, ShortReason.NO_HOLDER}
        assert result.seconds < 4.0
        if result.reason is ShortReason.LINK_SLOW:
            assert result.detail.startswith("a is not linked after ")
        a.process.send_signal(signal.SIGCONT)
        assert until(lambda: num_links(reader) == 1, LINKED_S), "nobody went on with the contact"
        assert until(lambda: reader.fetch(KEYS).num_chunks == NUM_CHUNKS, LINKED_S)


@pytest.mark.parametrize("reader", [0], indirect=True)
def test_a_dead_holder_is_left_at_once(controller, reader):
    with holder(controller) as a:
        assert until(lambda: reader.locate(KEYS).num_chunks == NUM_CHUNKS, LINKED_S)
        a.process.kill()
        a.process.wait()
        result = reader.fetch(KEYS, budget_s=2.0)
        assert (result.num_chunks, result.reason) == (0, ShortReason.LINK_FAILED)
        assert result.detail == "a: its address refuses connections, or no way leads there"
        assert result.seconds < 0.4
