"""The demo's two rounds: share a text, kill a holder that has company, kill one that has none.

Every round runs the same prompt on the same instance twice: without sharing, which gives the
answer and the time to compare with, and then with it.
"""

import math
import time
from contextlib import AbstractContextManager
from typing import Protocol

from examples.p2p_sharing.cluster import Cluster
from examples.p2p_sharing.messages import (
    AwaitHolders,
    Held,
    Paused,
    Prompt,
    Publish,
    Published,
    Ran,
    Resume,
    RunCold,
    RunShared,
)
from examples.p2p_sharing.processes import InstanceProcess
from examples.p2p_sharing.report import Kill, Kind, Report, Round, failed_checks
from examples.p2p_sharing.source import find_model
from examples.p2p_sharing.text import Topic, alice, oz
from examples.p2p_sharing.transport import expected_transport

NUM_ANSWER_TOKENS = 32
_KILL_AT_SHARE = 0.25
_ADVERTISE_TIMEOUT_S = 5.0


class Steps(Protocol):
    """Shows what is going on."""

    def step(self, title: str, usual_s: float) -> AbstractContextManager[None]:
        """Shows a step while it lasts; ``usual_s`` is how long that is on two cores."""
        ...


def run_demo(steps: Steps) -> Report:
    """Runs everything and checks it.

    Raises:
        DemoError: a process died or did not answer.
    """
    start_s = time.monotonic()
    source = find_model()
    with Cluster() as cluster:
        if not source.is_ready:
            with steps.step(f"{source.name} is made ready (only the first time)", 35):
                cluster.prepare_model()
        with steps.step("a controller and the instances A, B, C start", 12):
            cluster.start()
        rounds = (*_share(cluster, alice(), steps), _lose_only_holder(cluster, oz(), steps))
    transport = expected_transport()
    return Report(
        model=source.name,
        is_real_model=source.gguf is not None,
        expected_transport=transport,
        rounds=rounds,
        failures=failed_checks(rounds, transport),
        seconds=time.monotonic() - start_s,
    )


def _share(cluster: Cluster, topic: Topic, steps: Steps) -> tuple[Round, Round]:
    """Round 1: A computes a text, B reads it from A, C from both while A is killed."""
    a, b, c = (cluster.instance(name) for name in "abc")
    of_a, of_b, of_c = (Prompt(topic.text, question) for question in topic.questions)
    with steps.step(f"A computes the text '{topic.name}' and shares it", 7):
        _run_cold(a, of_a)
        a.ask(Publish(), Published)
    with steps.step("B answers without sharing, to compare", 7):
        cold = _run_cold(b, of_b)
    with steps.step("B reads A's KV and answers", 3):
        _await_holders(b, of_b, 1)
        shared = b.ask(RunShared(of_b, NUM_ANSWER_TOKENS), Ran)
    undisturbed = Round("B reads from A", Kind.UNDISTURBED, cold, shared)
    with steps.step("C answers without sharing, to compare", 7):
        cold = _run_cold(c, of_c)
    with steps.step("C reads the KV, A is killed meanwhile", 3):
        _await_holders(c, of_c, 2)
        shared, kill = _run_with_kill(c, of_c, cold.num_prefix_chunks, victim=a)
    return undisturbed, Round("C, A is killed", Kind.ONE_HOLDER_KILLED, cold, shared, kill)


def _lose_only_holder(cluster: Cluster, topic: Topic, steps: Steps) -> Round:
    """Round 2: only B has the text, and B is killed while C reads it."""
    b, c = (cluster.instance(name) for name in "bc")
    of_b, of_c = (Prompt(topic.text, question) for question in topic.questions)
    with steps.step(f"B computes the text '{topic.name}' and shares it", 6):
        _run_cold(b, of_b)
        b.ask(Publish(), Published)
    with steps.step("C answers without sharing, to compare", 6):
        cold = _run_cold(c, of_c)
    with steps.step("C reads the KV, its only holder B is killed meanwhile", 5):
        _await_holders(c, of_c, 1)
        shared, kill = _run_with_kill(c, of_c, cold.num_prefix_chunks, victim=b)
    return Round("C, B is killed", Kind.ONLY_HOLDER_KILLED, cold, shared, kill)


def _run_cold(instance: InstanceProcess, prompt: Prompt) -> Ran:
    return instance.ask(RunCold(prompt, NUM_ANSWER_TOKENS), Ran)


def _await_holders(instance: InstanceProcess, prompt: Prompt, num_holders: int) -> None:
    wanted = AwaitHolders(prompt, num_holders, _ADVERTISE_TIMEOUT_S)
    held = instance.ask(wanted, Held)
    if held.num_holders < num_holders:
        raise instance.failure(
            f"it sees {held.num_holders} holders of the text, not {num_holders}, "
            f"after {held.waited_s:.1f} s"
        )


def _run_with_kill(
    reader: InstanceProcess, prompt: Prompt, num_chunks: int, victim: InstanceProcess
) -> tuple[Ran, Kill | None]:
    """Runs a prompt with sharing and kills a holder once a quarter of its chunks is there."""
    pause_after_chunks = math.ceil(num_chunks * _KILL_AT_SHARE)
    reader.send(RunShared(prompt, NUM_ANSWER_TOKENS, pause_after_chunks))
    match reader.next_event():
        case Paused(done_chunks=done_chunks, total_chunks=total_chunks):
            victim.kill()
            ran = reader.ask(Resume(), Ran)
            return ran, Kill(victim.name, done_chunks, total_chunks)
        case Ran() as ran:
            return ran, None
        case other:
            raise reader.failure(f"Paused was expected, it sent {other!r}")
