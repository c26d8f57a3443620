"""Requests of all kinds, and what became of each beside the same one without sharing."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from examples.p2p_sharing.vllm.client import Completion
from examples.p2p_sharing.vllm.servers import Server

VOCABULARY = 1024
_LENGTHS = (100, 127, 128, 129, 640, 1000, 1024, 2048)
_MAX_TAIL_TOKENS = 200
_MAX_ANSWER_TOKENS = 40
_SHARES = {"document": 55, "new": 20, "aborted": 15, "again": 10}


@dataclass
class Tally:
    """What all clients have seen; written under its lock.

    Attributes:
        num_by_kind: requests that ended, by kind.
        failures: one sentence for each that went wrong.
        late_s: of every answer, time to the first token less that without sharing.
        noise_s: by how much two answers of the plain server differ, that has to compute both.
        num_cached: tokens of prompts that the sharing servers did not compute.
        num_prompt: tokens of their prompts.
    """

    num_by_kind: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    noise_s: list[float] = field(default_factory=list)
    num_cached: int = 0
    num_prompt: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Mix:
    """One client's requests.

    Args:
        sharing: the servers under test; each request goes to one of them.
        plain: answers the same one without sharing, before or after.
        documents: beginnings that prompts have in common.
        seed: of its choices.
        tally: takes the results.
    """

    def __init__(
        self,
        sharing: list[Server],
        plain: Server,
        documents: list[list[int]],
        seed: int,
        tally: Tally,
    ) -> None:
        self._sharing = sharing
        self._plain = plain
        self._documents = documents
        self._random = random.Random(seed)  # noqa: S311  a repeatable choice
        self._tally = tally
        self._last = self._tokens(100)

    def run(self, goes_on: Callable[[], bool]) -> None:
        """Asks one after the other for as long as it shall go on."""
        while goes_on():
            kind = self._random.choices(list(_SHARES), list(_SHARES.values()))[0]
            try:
                self._ask(kind)
            except OSError as error:
                with self._tally.lock:
                    self._tally.failures.append(f"{kind}: {error}")

    def _ask(self, kind: str) -> None:
        prompt, server = self._prompt(kind), self._random.choice(self._sharing)
        num_answer = self._random.randint(1, _MAX_ANSWER_TOKENS)
        if kind == "aborted":
            server.client.abandon(prompt, 400, self._random.uniform(0, 0.5))
        else:
            expected = self._compare(server, prompt, num_answer)
            if kind == "new":
                self._repeat(prompt, num_answer, expected)
        with self._tally.lock:
            self._tally.num_by_kind[kind] += 1

    def _repeat(self, prompt: list[int], num_answer: int, before: Completion) -> None:
        """Lets the plain server compute a prompt once more, as if it were new."""
        salt = str(self._random.random())
        again = self._plain.client.complete(prompt, num_answer, salt)
        with self._tally.lock:
            self._tally.noise_s.append(abs(again.first_token_s - before.first_token_s))

    def _compare(self, server: Server, prompt: list[int], num_answer: int) -> Completion:
        pair = [server, self._plain]
        if self._random.random() < 0.5:
            pair.reverse()
        answers = {each.name: each.client.complete(prompt, num_answer) for each in pair}
        ours, expected = answers[server.name], answers[self._plain.name]
        with self._tally.lock:
            if ours.tokens != expected.tokens:
                self._tally.failures.append(
                    f"{server.name}: {len(prompt)} tokens, {ours.num_cached} reused:"
                    f" {ours.tokens} instead of {expected.tokens}"
                )
            self._tally.late_s.append(ours.first_token_s - expected.first_token_s)
            self._tally.num_cached += ours.num_cached
            self._tally.num_prompt += ours.num_prompt
        return expected

    def _prompt(self, kind: str) -> list[int]:
        if kind == "new":
            self._last = self._tokens(self._random.choice(_LENGTHS))
        elif kind != "again":
            tail = self._tokens(self._random.randint(1, _MAX_TAIL_TOKENS))
            self._last = [*self._random.choice(self._documents), *tail]
        return self._last

    def _tokens(self, count: int) -> list[int]:
        return [self._random.randrange(VOCABULARY) for _ in range(count)]
