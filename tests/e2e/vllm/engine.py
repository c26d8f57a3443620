"""A vLLM engine in a forked process, asked over a pipe. vLLM is imported once, by the parent."""

import copy
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vllm import LLM, SamplingParams
from vllm.distributed.kv_transfer import get_kv_transfer_group
from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
from vllm.lora.request import LoRARequest
from vllm.v1.request import Request

from p2p.backend.backend import boot_clock
from p2p.backend.speeds import Rate
from p2p.errors import MemoryUnavailableError
from p2p.integrations.vllm import describe

_START_S = 120.0
_ANSWER_S = 120.0


@dataclass(frozen=True)
class Answer:
    """What an engine gave for one prompt."""

    tokens: tuple[int, ...]
    num_cached: int
    shared: Mapping[str, Any] | None
    seconds: float
    finish: str


@dataclass(frozen=True)
class EngineSettings:
    """How an engine is started."""

    model: Path
    core: int = 0
    connector: Mapping[str, Any] | None = None
    policy: str = "recompute"
    kv_bytes: int = 64 << 20
    options: Mapping[str, Any] = field(default_factory=dict)
    module: str = ""  # where the connector is found, instead of the plugin


class Engine:
    """One engine; a context manager that kills it in the end."""

    def __init__(self, settings: EngineSettings) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(settings, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._expect(_START_S)

    @property
    def pid(self) -> int:
        """Of the engine's process."""
        assert self._process.pid is not None
        return self._process.pid

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        num_tokens: int = 16,
        salt: str | None = None,
        adapter: Path | None = None,
    ) -> list[Answer]:
        """Returns the answers to some prompts that are given together, by a LoRA adapter or not."""
        self.send("generate", [list(prompt) for prompt in prompts], num_tokens, salt, adapter)
        return self.receive()

    def one(
        self,
        prompt: Sequence[int],
        num_tokens: int = 16,
        salt: str | None = None,
        adapter: Path | None = None,
    ) -> Answer:
        """Returns the answer to one prompt."""
        return self.generate([prompt], num_tokens, salt, adapter)[0]

    def counters(self) -> dict[str, int]:
        """Returns the coordinator's and the backend's counters."""
        self.send("counters")
        return self.receive()

    def settle(self) -> dict[str, int]:
        """Waits until everything saved is known to the controller; returns the counters."""
        self.send("settle")
        return self.receive()

    def forget(self) -> None:
        """Empties the engine's own prefix cache; the pool keeps its chunks."""
        self.send("forget")
        self.receive()

    def call(self, name: str, *arguments: Any) -> Any:
        """Runs one of the commands below."""
        self.send(name, *arguments)
        return self.receive()

    def send(self, name: str, *arguments: Any) -> None:
        """Sends a command without waiting."""
        self._pipe.send((name, arguments))

    def receive(self, timeout_s: float = _ANSWER_S) -> Any:
        """Waits for the answer to a command."""
        return self._expect(timeout_s)

    def signal(self, number: int) -> None:
        """Sends a signal to the engine."""
        os.kill(self.pid, number)

    def close(self) -> None:
        """Kills the engine."""
        if self._process.is_alive():
            self.signal(signal.SIGKILL)
        self._process.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _expect(self, timeout_s: float) -> Any:
        if not self._pipe.poll(timeout_s):
            raise TimeoutError(f"engine {self.pid} did not answer within {timeout_s} s")
        status, value = self._pipe.recv()
        if status != "ok":
            raise AssertionError(f"engine {self.pid}: {value}")
        return value


# ---------------------------------------------------------------------- in the engine's process


def _serve(settings: EngineSettings, pipe: Connection) -> None:
    try:
        served = _Served(settings)
        pipe.send(("ok", None))
        while True:
            name, arguments = pipe.recv()
            pipe.send(("ok", getattr(served, name)(*arguments)))
    except EOFError:
        pass
    except BaseException as error:
        pipe.send(("error", f"{error!r}\n{traceback.format_exc()}"))
        raise
    finally:
        os._exit(0)


class _Served:
    def __init__(self, settings: EngineSettings) -> None:
        os.environ |= {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_CPU_OMP_THREADS_BIND": str(settings.core),
        }
        options: dict[str, Any] = {
            "dtype": "float32",
            "max_model_len": 8448,
            "max_num_batched_tokens": 4096,
            "enforce_eager": True,
            "skip_tokenizer_init": True,
            "kv_cache_memory_bytes": settings.kv_bytes,
            "kv_transfer_config": _transfer_of(settings),
            **settings.options,
        }
        self.llm = LLM(model=str(settings.model), **options)
        client: Any = self.llm.llm_engine.engine_core
        self.core = client.engine_core
        self.scheduler = self.core.scheduler
        self.side = self.scheduler.connector and self.scheduler.connector._scheduler_side

    def generate(
        self, prompts: list[list[int]], num_tokens: int, salt: str | None, adapter: Path | None
    ) -> list[Answer]:
        sampling = _sampling(num_tokens)
        lora = adapter and LoRARequest(adapter.name, 1 + len(adapter.name), str(adapter))
        inputs = [
            {"prompt_token_ids": prompt} | ({"cache_salt": salt} if salt else {})
            for prompt in prompts
        ]
        began_s = time.monotonic()
        outputs = self.llm.generate(inputs, sampling, use_tqdm=False, lora_request=lora)
        took_s = time.monotonic() - began_s
        return [
            Answer(
                tuple(output.outputs[0].token_ids),
                output.num_cached_tokens or 0,
                (output.kv_transfer_params or {}).get("p2p"),
                took_s,
                output.outputs[0].finish_reason or "",
            )
            for output in outputs
        ]

    def counters(self) -> dict[str, int]:
        coordinator = self.side and self.side._coordinator
        if coordinator is None:
            return dict(self.side._refused) if self.side else {}
        backend = {f"backend_{name}": n for name, n in self.side._backend.counters().items()}
        return {**coordinator.counters, **backend, "open": coordinator.num_open}

    def settle(self) -> dict[str, int]:
        deadline_s = time.monotonic() + 10
        coordinator = self.side._coordinator
        while time.monotonic() < deadline_s:
            if self.scheduler.has_requests():  # a server's loop does this by itself
                self.core.step_fn()
            coordinator._saves.settle()
            if not coordinator.num_open and self.side._backend.wait_advertised(1.0):
                return self.counters()
            time.sleep(0.01)
        raise AssertionError(f"not settled: {self.counters()}")

    def forget(self) -> bool:
        assert self.llm.reset_prefix_cache()
        return True

    def refusal(self) -> str:
        return str(self.side.refusal)

    def refusal_with(self, field: str, value: int) -> str:
        """What would be refused of this engine with another parallel setting."""
        config = copy.copy(self.side._config)
        config.parallel_config = copy.copy(config.parallel_config)
        setattr(config.parallel_config, field, value)
        return describe.refusal(config, self.side._caches)

    def start(self, name: str, prompt: list[int], num_tokens: int) -> None:
        sampling = _sampling(num_tokens)
        self.llm.llm_engine.add_request(name, {"prompt_token_ids": prompt}, sampling)

    def run_for(self, seconds: float) -> dict[str, tuple[float, tuple[int, ...]]]:
        """Steps for so long; returns when each request ended, and its answer."""
        began_s, ended = time.monotonic(), {}
        while time.monotonic() < began_s + seconds:
            for output in self.llm.llm_engine.step():
                if output.finished:
                    tokens = tuple(output.outputs[0].token_ids)
                    ended[output.request_id] = (time.monotonic() - began_s, tokens)
        return ended

    def abort(self, name: str) -> None:
        self.llm.llm_engine.abort_request([name])

    def descriptors(self) -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    def clear(self) -> int:
        return int(self.side._backend.clear())

    def keep_chunks(self, prompt: list[int], first: int, end: int) -> None:
        """Drops all chunks but some of a prompt's."""
        backend = self.side._backend
        keys = self._keys(prompt)
        with backend._lock:
            core = backend._core
            wanted = set(keys[first:end])
            assert wanted <= {entry.key for entry in core.index}
            for entry in [each for each in core.index if each.key not in wanted]:
                core.drop(entry)
        backend._bond.wake()
        assert backend.wait_advertised(5)

    def break_loads(self, num_loads: int) -> None:
        """The next loads find no pool."""
        copies = get_kv_transfer_group()._worker_side._copies
        opened, left = copies._opened, [None] * num_loads

        def broken(pool: Any) -> Any:
            if not left:
                return opened(pool)
            left.pop()
            raise MemoryUnavailableError("broken by a test")

        copies._opened = broken

    def damage(self, prompt: list[int], chunk: int) -> None:
        """Flips a byte of a chunk in the pool."""
        backend = self.side._backend
        entry = backend._core.index.get(self._keys(prompt)[chunk])
        backend._pool.view(entry.slot)[1234] ^= 1

    def keys(self, prompt: list[int], changes: dict[str, Any]) -> list[bytes]:
        """The keys of a request with multi-modal inputs, an adapter or a salt."""
        return self._keys(prompt, **changes)

    def measured_prefill(self) -> float | None:
        """Tokens per second, as the backend believes."""
        return self.side._backend._core.prefill.value(boot_clock())

    def slow_down(self, instance: str, bytes_per_s: float) -> None:
        """Lets the reader believe that a holder is that slow."""
        backend = self.side._backend
        with backend._lock:
            speeds = backend._engine._reader.book.speeds
            speeds._links[instance].rate = Rate()
            speeds._links[instance].rate.note(bytes_per_s, 1.0, boot_clock())

    def _keys(self, prompt: list[int], **changes: Any) -> list[Any]:
        sampling = SamplingParams(max_tokens=1)
        hasher = self.core.request_block_hasher
        request = Request("keys", prompt, sampling, None, block_hasher=hasher, **changes)
        return list(self.side._keys(request))

    def num_watched(self) -> int | None:
        watched = self.side._backend._core.feed._watched
        return None if watched is None else len(watched)

    def num_threads(self) -> int:
        return threading.active_count()


def _transfer_of(settings: EngineSettings) -> dict[str, Any] | None:
    if settings.connector is None:
        return None
    transfer = {
        "kv_connector": "P2PConnector",
        "kv_role": "kv_both",
        "kv_load_failure_policy": settings.policy,
        "kv_connector_extra_config": dict(settings.connector),
    }
    if settings.module:
        KVConnectorFactory._registry.pop("P2PConnector", None)
        os.environ["VLLM_PLUGINS"] = ""
        transfer["kv_connector_module_path"] = settings.module
    return transfer


def _sampling(num_tokens: int) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=num_tokens, detokenize=False, ignore_eos=True)
