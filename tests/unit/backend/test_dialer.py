"""Whatever is wrong with a call comes back as its end: nothing is lost on the dialer's threads."""

import select

import msgspec
import pytest

from p2p.backend.dialer import Call, Dialer
from p2p.backend.links import Links
from p2p.backend.search import Search
from p2p.backend.trials import Attempt, DialPlan, Trial, Verdict
from p2p.channel.channels import Channels
from p2p.channel.fake import FAKE, FakeChannel, FakeNetwork
from p2p.errors import (
    ClosedError,
    P2PError,
    PeerRefusedError,
    PeerUnreachableError,
    PluginMissingError,
    ProtocolError,
)
from p2p.wire.messages import ChannelOffer, Holder
from p2p.wire.wakeup import Wakeup
from tests.contract.blocks import SMALL, Blocks

HOLDER = Holder(instance="a", incarnation=3, address="tcp://127.0.0.1:1")
ERRORS = [
    PluginMissingError("its device is down"),
    PeerUnreachableError("a", "no answer"),
    ProtocolError("no metadata of ours"),
    ClosedError("the channel is closed"),
    PeerRefusedError("a", "host", "ours", "theirs"),
]


class FailingChannel(FakeChannel):
    """Fails to dial or to attach as a test says."""

    error: P2PError | None = None

    def dial(self, peer, offer, timeout_s):
        if self.error is not None:
            raise self.error
        return super().dial(peer, offer, timeout_s)

    def attach(self, dialled):
        if self.error is not None:
            raise self.error
        return super().attach(dialled)


@pytest.fixture
def channel():
    return FailingChannel(FakeNetwork(), "us", Blocks(SMALL, seed=1).region)


@pytest.fixture
def channels(channel):
    return Channels({FAKE: channel})


@pytest.fixture
def offer(channel):
    return FakeChannel(channel.network, "them", Blocks(SMALL, seed=2).region).offer()


def _call(channels: Channels, *attempts: Attempt, problem: str = "") -> Call:
    wakeup = Wakeup()
    dialer = Dialer(channels, wakeup)
    dialer.dial(HOLDER, DialPlan(attempts, problem=problem), 1.0)
    assert select.select([wakeup], [], [], 10)[0], "nobody was woken"
    (call,) = dialer.take()
    dialer.close()
    wakeup.close()
    return call


def test_a_call_that_is_answered_brings_what_a_link_is_made_of(channels, offer):
    call = _call(channels, Attempt(offer, 1.0))
    assert (call.holder, call.problem) == (HOLDER, "")
    assert call.reached is not None
    assert [trial.verdict for trial in call.trials] == [Verdict.WORKS]
    assert Links(channels, lambda: 0.0, 5.0).attach(call.reached) is None


def test_a_channel_that_we_lack_is_named(channels, offer):
    foreign = msgspec.structs.replace(offer, channel="pigeon")
    assert "'pigeon': is not among ours: fake" in _call(channels, Attempt(foreign, 1.0)).problem


def test_a_call_with_nothing_to_try_says_why(channels):
    call = _call(channels, problem="it speaks nothing of ours")
    assert (call.reached, call.problem) == (None, "it speaks nothing of ours")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_call_that_fails_in_any_way_ends_with_the_reason(channel, channels, offer, error):
    channel.error = error
    call = _call(channels, Attempt(offer, 1.0))
    assert (call.reached, call.problem) == (None, f"fake: {error}")
    is_refused = isinstance(error, PeerRefusedError)
    assert call.trials[0].verdict is (Verdict.REFUSED if is_refused else Verdict.FAILED)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_link_that_cannot_be_made_is_told_with_the_reason(channel, channels, offer, error):
    reached = channels.dial("a", offer, 1.0)
    channel.error = error
    assert Links(channels, lambda: 0.0, 5.0).attach(reached) == str(error)


# Which channel a search ends with


def searched(plan: DialPlan, rates: dict[str, float]) -> tuple[str, list[str]]:
    """Returns what a search chose and what it tried; channels without a rate do not work."""
    search = Search(plan)
    while (attempt := search.next_attempt()) is not None:
        name = attempt.channel
        verdict = Verdict.WORKS if name in rates else Verdict.FAILED
        reason = "" if name in rates else "broken"
        search.on_trial(Trial(name, verdict, reason, rate=rates.get(name, 0.0)))
    assert bool(search.problem) != bool(search.chosen or rates)
    return search.chosen, [trial.channel for trial in search.trials]


def attempts(offer: ChannelOffer, **expected: float) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(msgspec.structs.replace(offer, channel=name), rate)
        for name, rate in expected.items()
    )


NEAR = {"shm": 7, "nixl": 6.5, "tcp": 4.5}
FAR = {"nixl": 25, "shm": 7, "tcp": 4.5}


@pytest.mark.parametrize(
    ("expected", "rates", "is_forced", "best", "tried"),
    [
        (NEAR, NEAR, False, "shm", ["shm"]),
        (NEAR, {"nixl": 6.5, "tcp": 4.5}, False, "nixl", ["shm", "nixl"]),
        (NEAR, {"nixl": 2, "tcp": 4.5}, False, "tcp", ["shm", "nixl", "tcp"]),
        (FAR, {"nixl": 25, "tcp": 4.5}, False, "nixl", ["nixl"]),
        (FAR, {"nixl": 2, "tcp": 4.5}, False, "tcp", ["nixl", "shm", "tcp"]),
        (FAR, {"nixl": 2}, False, "nixl", ["nixl", "shm", "tcp"]),
        (FAR, {"nixl": 2, "tcp": 4.5}, True, "nixl", ["nixl"]),
        (FAR, {}, False, "", ["nixl", "shm", "tcp"]),
    ],
)
def test_a_search_ends_when_nothing_faster_can_come(offer, expected, rates, is_forced, best, tried):
    plan = DialPlan(attempts(offer, **expected), is_forced)
    assert searched(plan, rates) == (best, tried)


def test_a_search_beside_a_link_takes_only_what_is_faster(offer):
    plan = DialPlan(attempts(offer, nixl=25), is_retry=True, at_least=4.5)
    assert searched(plan, {"nixl": 2}) == ("", ["nixl"])
    assert searched(plan, {"nixl": 10}) == ("nixl", ["nixl"])


def test_a_last_resort_is_tried_only_if_nothing_else_works(offer):
    good, doubtful = attempts(offer, tcp=4.5, shm=7)
    plan = DialPlan((good, Attempt(doubtful.offer, doubtful.expected, is_last_resort=True)))
    assert searched(plan, {"tcp": 4, "shm": 7}) == ("tcp", ["tcp"])
    assert searched(plan, {"shm": 7}) == ("shm", ["tcp", "shm"])
