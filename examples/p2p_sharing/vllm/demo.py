"""The rounds: B reads from A, A from B, and B answers after A was killed.

Every round runs a prompt twice on the same server: under a salt that nobody else has, which gives
the answer and the time to compare with, and then without.
"""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from transformers import AutoTokenizer

from examples.p2p_sharing.demo import Steps
from examples.p2p_sharing.text import Topic, alice, oz
from examples.p2p_sharing.vllm.client import Completion
from examples.p2p_sharing.vllm.servers import Server, Servers, await_counter, await_ready

NUM_ANSWER_TOKENS = 32
_CHUNK_TOKENS = 128
_BUDGET_S = 2.0
_MAX_SHARED_TO_COLD = 0.5


class Round(msgspec.Struct, frozen=True):
    """One prompt on one server.

    Attributes:
        title: for people.
        cold: the run that nothing is shared with.
        shared: the same prompt with sharing.
        local: once more, out of the server's own prefix cache.
        num_fetched: chunks that came from the other server.
        is_holder_killed: before the shared run.
    """

    title: str
    cold: Completion
    shared: Completion
    local: Completion
    num_fetched: int
    is_holder_killed: bool = False

    def problems(self) -> list[str]:
        """Returns one sentence for each promise that was broken."""
        found = []
        if self.shared.tokens != self.cold.tokens:
            found.append("the answer differs from the one without sharing")
        if self.is_holder_killed:
            if self.shared.first_token_s > 1.5 * self.cold.first_token_s + _BUDGET_S:
                found.append("the first token came later than computing it and the budget explain")
            return found
        if self.num_fetched < 1 or self.shared.num_cached != self.num_fetched * _CHUNK_TOKENS:
            found.append(f"{self.shared.num_cached} tokens reused of {self.num_fetched} chunks")
        if self.shared.first_token_s > _MAX_SHARED_TO_COLD * self.cold.first_token_s:
            found.append("the first token took more than half of the time without sharing")
        return found


class Report(msgspec.Struct, frozen=True):
    """All results.

    Attributes:
        rounds: in the order in which they ran.
        failures: checks that failed, one sentence each.
        seconds: of the whole run.
    """

    rounds: tuple[Round, ...]
    failures: tuple[str, ...]
    seconds: float


def run_demo(model: Path, steps: Steps) -> Report:
    """Runs everything and checks it.

    Raises:
        DemoError: a server died or did not start.
    """
    start_s = time.monotonic()
    encode = _encoder(model)
    with Servers(model) as servers:
        with steps.step("a controller and two vLLM servers, A and B, start", 45):
            a, b = servers.start("a", "0"), servers.start("b", "1")
            await_ready(a, b)
        with steps.step("A and B meet", 2):
            _meet(a, b, encode)
        rounds = (
            _read(steps, (a, b), alice(), encode, "B reads from A"),
            _read(steps, (b, a), oz(), encode, "A reads from B"),
            _lose(steps, (a, b), encode),
        )
    failures = [f"{each.title}: {problem}" for each in rounds for problem in each.problems()]
    return Report(rounds, tuple(failures), time.monotonic() - start_s)


Encode = Callable[[str, str], list[int]]


def _encoder(model: Path) -> Encode:
    tokenizer = AutoTokenizer.from_pretrained(model)

    def encode(text: str, question: str) -> list[int]:
        head = f"<|im_start|>user\nRead this text and answer the question below it.\n\n{text}"
        tail = f"\n\nQuestion: {question}<|im_end|>\n<|im_start|>assistant\n"
        return [*tokenizer.encode(head), *tokenizer.encode(tail)]

    return encode


def _meet(a: Server, b: Server, encode: Encode) -> None:
    """A first contact takes a fifth of a second, which no round should measure."""
    for holder, reader in ((a, b), (b, a)):
        prompt = encode(f"{holder.name} says hello. " * 40, "What does it say?")
        _hold(holder, prompt)
        reader.client.complete(prompt, 1)


def _hold(server: Server, prompt: list[int]) -> None:
    """A server computes a prompt, and its chunks are known to the controller."""
    before = server.client.metrics().get("saved_chunks", 0.0)
    server.client.complete(prompt, 2)
    await_counter(server, "saved_chunks", before + len(prompt) // _CHUNK_TOKENS)
    time.sleep(0.2)  # digests are taken, and the directory told


def _read(
    steps: Steps, pair: tuple[Server, Server], topic: Topic, encode: Encode, title: str
) -> Round:
    holder, reader = pair
    held, asked = (encode(topic.text, question) for question in topic.questions[:2])
    names = holder.name.upper(), reader.name.upper()
    with steps.step(f"{names[0]} computes the text '{topic.name}'", 5):
        _hold(holder, held)
    with steps.step(f"{names[1]} answers without sharing, to compare", 5):
        cold = reader.client.complete(asked, NUM_ANSWER_TOKENS, salt=f"alone-{topic.name}")
    with steps.step(f"{names[1]} reads {names[0]}'s KV and answers", 2):
        return _shared(reader, asked, cold, title)


def _lose(steps: Steps, pair: tuple[Server, Server], encode: Encode) -> Round:
    holder, reader = pair
    topic = alice()
    asked = encode(f"Chapter One.\n{topic.text}", topic.questions[2])
    with steps.step("A computes another text, B answers it without sharing, to compare", 10):
        _hold(holder, asked)
        cold = reader.client.complete(asked, NUM_ANSWER_TOKENS, salt="alone")
    with steps.step("A is killed, B answers", 6):
        holder.kill()
        return _shared(reader, asked, cold, "B, A is killed", is_holder_killed=True)


def _shared(
    reader: Server,
    asked: list[int],
    cold: Completion,
    title: str,
    *,
    is_holder_killed: bool = False,
) -> Round:
    before = reader.client.metrics().get("fetched_chunks", 0.0)
    shared = reader.client.complete(asked, NUM_ANSWER_TOKENS)
    num_fetched = int(reader.client.metrics().get("fetched_chunks", 0.0) - before)
    local = reader.client.complete(asked, NUM_ANSWER_TOKENS)
    return Round(title, cold, shared, local, num_fetched, is_holder_killed)
