"""Engines that several tests share. vLLM is imported once; each engine is a forked process."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.controller_process import ControllerProcess
from tests.e2e.vllm.engine import Engine, EngineSettings
from tests.e2e.vllm.model_folder import VOCABULARY, make_model

CHUNK = 128
CHUNK_BYTES = 4 * 2 * 2 * 32 * CHUNK * 4  # layers, K and V, heads, head size, tokens, float32


@pytest.fixture(scope="session")
def model() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="p2p-vllm-") as folder:
        yield make_model(Path(folder))


@pytest.fixture(scope="session")
def controller() -> Iterator[ControllerProcess]:
    with ControllerProcess() as process:
        yield process


@pytest.fixture
def own_controller() -> Iterator[ControllerProcess]:
    """For tests that harm it."""
    with ControllerProcess() as process:
        yield process


@pytest.fixture(scope="session")
def plain(model: Path) -> Iterator[Engine]:
    """Without a connector: what answers must be."""
    with Engine(EngineSettings(model)) as engine:
        yield engine


@pytest.fixture(scope="session")
def a(model: Path, controller: ControllerProcess) -> Iterator[Engine]:
    with Engine(sharing(model, controller, "a")) as engine:
        yield engine


@pytest.fixture(scope="session")
def b(model: Path, controller: ControllerProcess, a: Engine) -> Iterator[Engine]:
    """Has met ``a``, so that no test measures a first contact."""
    with Engine(sharing(model, controller, "b", core=1)) as engine:
        introduce(a, engine)
        introduce(engine, a)
        yield engine


@pytest.fixture
def engines(
    model: Path,
) -> Iterator[Callable[..., Engine]]:
    """Starts engines that end with the test."""
    with ExitStack() as stack:

        def start(controller: ControllerProcess, name: str, **changes: object) -> Engine:
            return stack.enter_context(Engine(sharing(model, controller, name, **changes)))

        yield start


def sharing(
    model: Path,
    controller: ControllerProcess,
    name: str,
    *,
    core: int = 0,
    kv_bytes: int = 64 << 20,
    options: dict[str, object] | None = None,
    **extra: object,
) -> EngineSettings:
    """Returns the settings of an engine that shares."""
    connector = {
        "controller": controller.address,
        "instance": name,
        "pool_bytes": 128 << 20,
        "pull": "always",
        **extra,
    }
    return EngineSettings(model, core, connector, kv_bytes=kv_bytes, options=options or {})


_random = np.random.default_rng(7)


def prompt_of(num_tokens: int) -> list[int]:
    """Returns a prompt that no test had before."""
    return [int(token) for token in _random.integers(0, VOCABULARY, num_tokens)]


def introduce(holder: Engine, reader: Engine) -> None:
    """Lets a reader fetch from a holder until it does."""
    for _ in range(5):
        prompt = prompt_of(CHUNK + 1)
        holder.one(prompt, 1)
        holder.settle()
        if reader.one(prompt, 1).num_cached:
            reader.settle()
            return
    raise AssertionError(f"no fetch: {reader.counters()}")


class Growth:
    """What counters have grown by since this was made."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._before = engine.settle()

    def __getitem__(self, name: str) -> int:
        return self._engine.settle().get(name, 0) - self._before.get(name, 0)
