"""Each pair takes the best channel that works; one that breaks is demoted, and comes back."""

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from p2p.backend import BackendConfig, FetchResult, P2PBackend, ShortReason
from tests.e2e.breakable_holder import BreakableHolder, prompt_keys
from tests.e2e.controller_process import ControllerProcess, until
from tests.e2e.holder_process import LAYOUT, NAMESPACE, content_of

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NUM_PROMPTS = 12
NUM_CHUNKS = 64
RETRY_S = 0.5


class MidTransfer:
    """Does something once a quarter of a fetch's chunks has arrived."""

    def __init__(self) -> None:
        self.do: Callable[[], None] | None = None

    def on_phase(self, phase: str, num_arrived: int, num_chunks: int) -> None:
        if phase == "mid_transfer" and self.do is not None and num_arrived * 4 >= num_chunks:
            do, self.do = self.do, None
            do()


@pytest.fixture
def controller() -> Iterator[ControllerProcess]:
    with ControllerProcess() as process:
        yield process


@pytest.fixture
def holder(controller: ControllerProcess) -> Iterator[BreakableHolder]:
    with BreakableHolder(controller.address, NUM_PROMPTS, NUM_CHUNKS) as process:
        yield process


def start(
    controller: ControllerProcess, observer: MidTransfer | None = None, **settings: object
) -> P2PBackend:
    values: dict[str, object] = {
        "namespace": NAMESPACE,
        "controller": controller.address,
        "instance": "reader",
        "pool_bytes": NUM_PROMPTS * NUM_CHUNKS * LAYOUT.chunk_bytes,
        "channel_retry_s": RETRY_S,
        "window_bytes": 4 * LAYOUT.chunk_bytes,
        **settings,
    }
    return P2PBackend.start(BackendConfig(**values), LAYOUT, observer)  # type: ignore[arg-type]


def fetched(backend: P2PBackend, prompt: int, budget_s: float = 10.0) -> FetchResult:
    """Returns a fetch that brought a whole prompt, byte for byte."""
    result = backend.fetch(prompt_keys(prompt, NUM_CHUNKS), budget_s=budget_s)
    found = (result.num_chunks, result.reason, result.detail)
    assert found[:2] == (NUM_CHUNKS, ShortReason.COMPLETE), found
    content = content_of(prompt, NUM_CHUNKS)
    assert all((chunk == content[n]).all() for n, chunk in enumerate(result.chunks))
    return result


def test_a_channel_that_breaks_in_mid_run_is_demoted_and_comes_back(controller, holder, caplog):
    hook = MidTransfer()
    with start(controller, hook, channels=("shm", "nixl"), ahead_bytes=0) as reader:
        (source,) = fetched(reader, 0).sources
        assert (source.channel, source.transport) == ("shm", "shm")

        hook.do = holder.break_shm
        (source,) = fetched(reader, 1).sources  # the rest of it over the next channel
        assert hook.do is None
        assert source.channel == "nixl"
        counters = reader.counters()
        assert counters["channel_failed_shm"] == counters["channel_demoted_shm"] == 1
        (warning,) = [r for r in caplog.records if "nixl instead of shm" in r.getMessage()]
        assert warning.levelno == logging.WARNING

        time.sleep(RETRY_S)
        (source,) = fetched(reader, 2).sources  # meanwhile shm is tried again, in vain
        assert source.channel == "nixl"
        assert until(lambda: reader.counters()["channel_demoted_shm"] == 2)

        holder.heal_shm()
        prompts = iter(range(3, NUM_PROMPTS))
        time.sleep(2 * RETRY_S)
        fetched(reader, next(prompts))
        assert until(lambda: reader.counters()["channel_recovered_shm"] == 1)
        (source,) = fetched(reader, next(prompts)).sources
        assert source.channel == "shm"
        assert reader.counters()["channel_failed_nixl"] == 0


@pytest.mark.parametrize(
    ("settings", "channel"),
    [
        ({}, "shm"),
        ({"channels": ("nixl", "shm")}, "nixl"),
        ({"channel": "nixl"}, "nixl"),
        ({"peer_channels": {"hold*": ("nixl",)}}, "nixl"),
        ({"peer_channels": {"other": ("nixl",)}}, "shm"),
    ],
)
def test_settings_force_the_choice(controller, holder, settings, channel):
    with start(controller, **settings) as reader:
        (source,) = fetched(reader, 0).sources
        assert source.channel == channel
        assert not any(name.startswith("channel_") for name in reader.counters())
