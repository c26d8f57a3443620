"""The process of one serving instance: a model, a backend, and a driver that gives commands.

Every prompt goes one of two ways. Cold: prefill all of it. Shared: fetch what peers hold, hand it
to the engine, prefill the rest. Greedy decoding follows in both, so answers can be compared.
"""

import argparse
import logging
import time
from typing import TYPE_CHECKING, NamedTuple, assert_never

import torch

from examples.p2p_sharing.engine import CHUNK_TOKENS, Engine, Stopwatch
from examples.p2p_sharing.hook import PauseHook
from examples.p2p_sharing.messages import (
    AnyEvent,
    AwaitHolders,
    Fetched,
    Held,
    Prompt,
    Publish,
    Published,
    Quit,
    Ran,
    Ready,
    Resume,
    RunCold,
    RunShared,
    Source,
    Stopped,
)
from examples.p2p_sharing.model import Tokenizer, load
from examples.p2p_sharing.port import Port
from examples.p2p_sharing.source import find_model
from p2p.backend import BackendConfig, FetchResult, P2PBackend
from p2p.keys import ChunkKey, Namespace, chunk_keys, weights_digest

if TYPE_CHECKING:
    from examples.p2p_sharing.engine import Prefill

FETCH_BUDGET_S = 2.0
POOL_CHUNKS = 256  # the small model has short tokens, so many chunks
_POLL_S = 0.02


class Encoded(NamedTuple):
    """A prompt's tokens, and the keys of the chunks that a fetch may ask for.

    Attributes:
        num_prefix_chunks: full chunks of the part that depends on the text alone.
        keys: of all full chunks that leave at least one token to compute.
    """

    tokens: list[int]
    num_prefix_chunks: int
    keys: list[ChunkKey]


class Instance:
    """Carries out the driver's commands, one at a time.

    Args:
        engine: warmed up.
        tokenizer: the engine's.
        backend: started with ``hook`` as its observer.
        hook: stops a fetch where the driver wants it.
    """

    def __init__(
        self, engine: Engine, tokenizer: Tokenizer, backend: P2PBackend, hook: PauseHook
    ) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._backend = backend
        self._hook = hook
        self._cold: tuple[Encoded, Prefill] | None = None

    def carry_out(self, command: RunCold | RunShared | Publish | AwaitHolders) -> AnyEvent:
        """Does what a command says and returns the answer to it."""
        match command:
            case RunCold():
                return self._run_cold(command)
            case RunShared():
                return self._run_shared(command)
            case Publish():
                return self._publish()
            case AwaitHolders():
                return self._await_holders(command)
            case _:
                assert_never(command)

    def _run_cold(self, command: RunCold) -> Ran:
        encoded = self._encode(command.prompt)
        watch = Stopwatch()
        prefill = self._engine.prefill(encoded.tokens, [])
        first_token_s = watch.seconds()
        answer = self._engine.decode(prefill, command.num_answer_tokens)
        self._cold = (encoded, prefill)
        return Ran(
            num_tokens=len(encoded.tokens),
            num_prefix_chunks=encoded.num_prefix_chunks,
            num_reused_tokens=0,
            answer=tuple(answer.tokens),
            answer_text=self._tokenizer.decode(answer.tokens),
            smallest_margin=answer.smallest_margin,
            first_token_s=first_token_s,
            answer_s=watch.seconds(),
        )

    def _run_shared(self, command: RunShared) -> Ran:
        encoded = self._encode(command.prompt)
        self._hook.arm(command.pause_after_chunks)
        watch = Stopwatch()
        with self._backend.fetch(encoded.keys, budget_s=FETCH_BUDGET_S) as result:
            prefill = self._engine.prefill(encoded.tokens, result.chunks)
            first_token_s = watch.seconds()
            fetched = _summary(result)
        answer = self._engine.decode(prefill, command.num_answer_tokens)
        return Ran(
            num_tokens=len(encoded.tokens),
            num_prefix_chunks=encoded.num_prefix_chunks,
            num_reused_tokens=fetched.num_chunks * CHUNK_TOKENS,
            answer=tuple(answer.tokens),
            answer_text=self._tokenizer.decode(answer.tokens),
            smallest_margin=answer.smallest_margin,
            first_token_s=first_token_s,
            answer_s=watch.seconds(),
            fetched=fetched,
        )

    def _publish(self) -> Published:
        if self._cold is None:
            raise ValueError("Publish comes after RunCold")
        encoded, prefill = self._cold
        watch = Stopwatch()
        chunks = self._engine.chunks(prefill, range(len(encoded.keys)))
        self._backend.put(encoded.keys, chunks)
        return Published(len(encoded.keys), watch.seconds())

    def _await_holders(self, command: AwaitHolders) -> Held:
        encoded = self._encode(command.prompt)
        watch = Stopwatch()
        while True:
            num_holders = self._num_holders(encoded.keys[: encoded.num_prefix_chunks])
            waited_s = watch.seconds()
            if num_holders >= command.num_holders or waited_s > command.timeout_s:
                return Held(num_holders, waited_s)
            time.sleep(_POLL_S)

    def _num_holders(self, keys: list[ChunkKey]) -> int:
        hit = self._backend.locate(keys)
        if hit.num_chunks < len(keys):
            return 0
        return min((len(run.holders) for run in hit.runs), default=0)

    def _encode(self, prompt: Prompt) -> Encoded:
        tokens, num_prefix_tokens = self._tokenizer.encode_prompt(prompt.text, prompt.question)
        keys = chunk_keys(tokens[:-1], CHUNK_TOKENS)
        return Encoded(tokens, num_prefix_tokens // CHUNK_TOKENS, keys)


def _summary(result: FetchResult) -> Fetched:
    sources = tuple(
        Source(
            instance=source.instance,
            num_chunks=source.num_chunks,
            num_bytes=source.num_bytes,
            seconds=source.read_s,
            channel=source.channel,
            transport=source.transport,
        )
        for source in result.sources
    )
    return Fetched(result.num_chunks, result.seconds, result.reason.value, sources)


def _serve(port: Port, name: str, controller: str) -> None:
    watch = Stopwatch()
    torch.set_num_threads(1)  # two threads that wait for each other collapse beside other load
    source = find_model()
    model, tokenizer = load(source)
    engine = Engine(model)
    engine.warm_up()
    hook = PauseHook(port)
    config = BackendConfig(
        controller=controller,
        instance=name,
        namespace=Namespace(source.name, weights_digest(source.folder), "float32"),
        channel="nixl",
        pool_bytes=POOL_CHUNKS * engine.layout.chunk_bytes,
    )
    with P2PBackend.start(config, engine.layout, observer=hook) as backend:
        port.send(Ready(watch.seconds(), CHUNK_TOKENS, engine.layout.chunk_bytes))
        instance = Instance(engine, tokenizer, backend, hook)
        while not isinstance(command := port.receive(), Quit | Resume):
            port.send(instance.carry_out(command))
    port.send(Stopped())


def main() -> None:
    """Runs one instance until the driver says `Quit` or is gone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--controller", required=True)
    options = parser.parse_args()
    port = Port()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    _serve(port, options.name, options.controller)


if __name__ == "__main__":
    main()
