"""Every promise of the demo has a check that fails when it is broken."""

import io

import msgspec
import pytest
from rich.console import Console

from examples.p2p_sharing.messages import Fetched, Ran, Source
from examples.p2p_sharing.report import Kill, Kind, Report, Round, failed_checks
from examples.p2p_sharing.table import results_table

COLD = Ran(
    num_tokens=1765,
    num_prefix_chunks=27,
    num_reused_tokens=0,
    answer=(5, 6, 7),
    answer_text="an answer",
    smallest_margin=0.2,
    first_token_s=4.0,
    answer_s=6.0,
)


def source(instance="a", num_chunks=27, channel="nixl", transport="cma"):
    return Source(instance, num_chunks, num_chunks * 2_949_120, 0.04, channel, transport)


def shared(num_chunks=27, *sources, **changes):
    fetched = Fetched(num_chunks, 0.05, "complete", sources or (source(),))
    return msgspec.structs.replace(
        COLD,
        **{"fetched": fetched, "num_reused_tokens": num_chunks * 64, "first_token_s": 0.4}
        | changes,
    )


def undisturbed(run):
    return Round("B", Kind.UNDISTURBED, COLD, run)


A_QUARTER = Kill("a", 7, 27)


def killed(kind=Kind.ONE_HOLDER_KILLED, run=None, kill=A_QUARTER):
    run = run or shared(27, source("a", 7), source("b", 20))
    return Round("C", kind, COLD, run, kill)


GOOD = (
    undisturbed(shared()),
    killed(),
    killed(Kind.ONLY_HOLDER_KILLED, shared(6, source("b", 6)), Kill("b", 6, 22)),
)


def test_all_is_well():
    assert failed_checks(GOOD, "cma") == ()


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (undisturbed(shared(answer=(5, 6, 8))), "differs from token 2 on"),
        (undisturbed(shared(26)), "reused 26 of 27"),
        (undisturbed(shared(27, source(transport="tcp"))), "nixl/tcp, not over nixl/cma"),
        (undisturbed(shared(27, source(channel="shm"))), "shm/cma"),
        (undisturbed(shared(first_token_s=2.1)), "over half"),
        (undisturbed(shared(fetched=None)), "reused 0 of 27"),
        (killed(run=shared(20)), "reused 20 of 27"),
        (killed(kill=None), "nothing was killed"),
        (killed(kill=Kill("a", 5, 27)), "19%"),
        (killed(kill=Kill("a", 14, 27)), "52%"),
        (killed(Kind.ONLY_HOLDER_KILLED, shared(27)), "a part was expected"),
        (killed(Kind.ONLY_HOLDER_KILLED, shared(0)), "a part was expected"),
    ],
)
def test_a_broken_promise_is_named(broken, words):
    (failure,) = failed_checks((broken,), "cma")
    assert words in failure
    assert failure.startswith(f"{broken.title}: ")


def test_a_short_prompt_proves_no_speed():
    cold = msgspec.structs.replace(COLD, num_tokens=1400)
    (failure,) = failed_checks((Round("B", Kind.UNDISTURBED, cold, shared()),), "cma")
    assert "too short" in failure


def test_a_kill_round_may_be_slow():
    assert failed_checks((killed(run=shared(27, first_token_s=5.0)),), "cma") == ()


def test_the_report_is_json_and_a_table():
    report = Report("SmolLM2", True, "cma", GOOD, (), 60.0)
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(results_table(report))
    text = console.export_text()
    for words in ("27 of 27", "A: 7, B: 20", "A at 26% of the chunks", "nixl/cma", "yes, 3 tokens"):
        assert words in text
