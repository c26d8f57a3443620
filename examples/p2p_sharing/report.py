"""What the demo found out, and whether that is what the fabric promises. Pure values."""

from enum import Enum

import msgspec

from examples.p2p_sharing.messages import Ran

CHANNEL = "nixl"
MIN_PROMPT_TOKENS = 1500
MIN_KILL_SHARE = 0.20
MAX_KILL_SHARE = 0.50
MAX_SHARED_TO_COLD = 0.5


class Kind(Enum):
    """What is done to a round's fetch, and so what it has to deliver."""

    UNDISTURBED = "undisturbed"
    ONE_HOLDER_KILLED = "one holder killed"
    ONLY_HOLDER_KILLED = "only holder killed"


class Kill(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An instance was killed in the middle of somebody's fetch.

    Attributes:
        victim: the instance.
        done_chunks: chunks that the reader had then.
        total_chunks: chunks of the fetch.
    """

    victim: str
    done_chunks: int
    total_chunks: int

    @property
    def share(self) -> float:
        """How much of the fetch was done."""
        return self.done_chunks / self.total_chunks


class Round(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One prompt on one instance, without sharing and with it.

    Attributes:
        title: for people.
        kind: what was done to it.
        cold: the run without sharing.
        shared: the same prompt with it.
        kill: none if nothing was killed.
    """

    title: str
    kind: Kind
    cold: Ran
    shared: Ran
    kill: Kill | None = None

    @property
    def is_equal(self) -> bool:
        """Whether both answers have the same tokens."""
        return self.cold.answer == self.shared.answer

    @property
    def num_reused_chunks(self) -> int:
        """Chunks that the engine was given."""
        return self.shared.fetched.num_chunks if self.shared.fetched else 0


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of the demo's results.

    Attributes:
        model: that ran.
        is_real_model: false for the small random one.
        expected_transport: what the kernel allows.
        rounds: in the order in which they ran.
        failures: checks that failed, one sentence each.
        seconds: of the whole run.
    """

    model: str
    is_real_model: bool
    expected_transport: str
    rounds: tuple[Round, ...]
    failures: tuple[str, ...]
    seconds: float


def failed_checks(rounds: tuple[Round, ...], transport: str) -> tuple[str, ...]:
    """Returns one sentence for each promise that was broken; none if all is well."""
    failures: list[str] = []
    for each in rounds:
        problems = [
            *_answer_problems(each),
            *_reuse_problems(each),
            *_kill_problems(each),
            *_transport_problems(each, transport),
            *_speed_problems(each),
        ]
        failures += [f"{each.title}: {problem}" for problem in problems]
    return tuple(failures)


def _answer_problems(each: Round) -> list[str]:
    if each.is_equal:
        return []
    pairs = enumerate(zip(each.cold.answer, each.shared.answer, strict=False))
    first = next((at for at, (cold, shared) in pairs if cold != shared), len(each.cold.answer))
    margin = each.cold.smallest_margin
    problem = (
        f"the answer differs from token {first} on (the smallest distance between the two best "
        f"logits of the cold run is {margin:.2g}; float32 rounding explains less than 1e-4)"
    )
    return [problem]


def _reuse_problems(each: Round) -> list[str]:
    reused, available = each.num_reused_chunks, each.cold.num_prefix_chunks
    if each.kind is Kind.ONLY_HOLDER_KILLED:
        if 0 < reused < available:
            return []
        return [f"reused {reused} of {available} chunks; a part was expected"]
    if reused < available:
        reason = each.shared.fetched.reason if each.shared.fetched else "no fetch"
        return [f"reused {reused} of {available} full chunks of the shared text ({reason})"]
    return []


def _kill_problems(each: Round) -> list[str]:
    if each.kind is Kind.UNDISTURBED:
        return []
    if each.kill is None:
        return ["the fetch ended before its hook was reached, so nothing was killed"]
    if not MIN_KILL_SHARE <= each.kill.share <= MAX_KILL_SHARE:
        return [f"the kill landed at {each.kill.share:.0%} of the chunks, not at 20 to 50 %"]
    return []


def _transport_problems(each: Round, transport: str) -> list[str]:
    sources = each.shared.fetched.sources if each.shared.fetched else ()
    return [
        f"{source.instance} was read over {source.channel}/{source.transport}, "
        f"not over {CHANNEL}/{transport}"
        for source in sources
        if source.num_chunks and (source.channel, source.transport) != (CHANNEL, transport)
    ]


def _speed_problems(each: Round) -> list[str]:
    if each.kind is not Kind.UNDISTURBED:
        return []
    problems = []
    if each.cold.num_tokens < MIN_PROMPT_TOKENS:
        problems.append(f"a prompt of {each.cold.num_tokens} tokens is too short to be measured")
    if each.shared.first_token_s > MAX_SHARED_TO_COLD * each.cold.first_token_s:
        shared_s, cold_s = each.shared.first_token_s, each.cold.first_token_s
        problems.append(f"the first token took {shared_s:.2f} s, cold {cold_s:.2f} s: over half")
    return problems
