"""Whatever is wrong with a call comes back as its end: nothing is lost on the dialer's threads."""

import select

import pytest

from p2p.backend.actions import OpenLink
from p2p.backend.dialer import Call, Dialer
from p2p.backend.links import Links
from p2p.channel.fake import FakeChannel, FakeNetwork
from p2p.errors import (
    ClosedError,
    P2PError,
    PeerUnreachableError,
    PluginMissingError,
    ProtocolError,
)
from p2p.wire.messages import ChannelOffer, Holder, RankOffer, Welcome
from p2p.wire.wakeup import Wakeup
from tests.contract.blocks import SMALL, Blocks

HOLDER = Holder(instance="a", incarnation=3, address="tcp://127.0.0.1:1")
ERRORS = [
    PluginMissingError("its device is down"),
    PeerUnreachableError("a", "no answer"),
    ProtocolError("no metadata of ours"),
    ClosedError("the channel is closed"),
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
def offer(channel):
    return FakeChannel(channel.network, "them", Blocks(SMALL, seed=2).region).offer()


def _call(channel: FakeChannel, offer: ChannelOffer) -> Call:
    wakeup = Wakeup()
    dialer = Dialer(channel, wakeup)
    ranks = (RankOffer(rank=0, channels=(offer,)),)
    dialer.dial(OpenLink(HOLDER, Welcome(instance="a", incarnation=3, ranks=ranks), 1.0))
    assert select.select([wakeup], [], [], 10)[0], "nobody was woken"
    (call,) = dialer.take()
    dialer.close()
    wakeup.close()
    return call


def test_a_call_that_is_answered_brings_what_a_link_is_made_of(channel, offer):
    call = _call(channel, offer)
    assert (call.holder, call.problem) == (HOLDER, "")
    assert call.dialled is not None
    assert Links(channel, lambda: 0.0, 5.0).attach(call.dialled) is None


def test_a_holder_without_our_channel_is_named(channel, offer):
    foreign = ChannelOffer(channel="pigeon", metadata=b"", region=offer.region)
    assert _call(channel, foreign).problem == "offers no channel that we speak (fake)"


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_call_that_fails_in_any_way_ends_with_the_reason(channel, offer, error):
    channel.error = error
    call = _call(channel, offer)
    assert (call.dialled, call.problem) == (None, str(error))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_link_that_cannot_be_made_is_told_with_the_reason(channel, offer, error):
    dialled = channel.dial("a", offer, 1.0)
    channel.error = error
    assert Links(channel, lambda: 0.0, 5.0).attach(dialled) == str(error)
