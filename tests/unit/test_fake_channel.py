"""What a test may do to a fake network beyond the contract that all channels share."""

import pytest

from p2p.channel.base import Link, TransferState
from p2p.channel.fake import FakeChannel, FakeNetwork, Pace
from p2p.errors import LinkDownError, PeerUnreachableError
from tests.contract.blocks import SMALL, Blocks


class Pair:
    def __init__(self, pace: Pace) -> None:
        self.network = FakeNetwork(pace)
        self.ours, self.theirs = Blocks(SMALL, seed=1), Blocks(SMALL, seed=2)
        self.channel = FakeChannel(self.network, "us", self.ours.region)
        self.peer = FakeChannel(self.network, "them", self.theirs.region)

    def connect(self) -> Link:
        return self.channel.connect("peer", self.peer.offer(), 1.0)


@pytest.fixture
def pair():
    return Pair(Pace.BY_HAND)


def test_a_transfer_can_be_held_in_the_middle(pair):
    before = pair.ours.block(1)
    transfer = pair.connect().read([0, 1], [4, 5])
    assert pair.network.step() == 1
    assert pair.ours.block(0) == pair.theirs.block(4)
    assert pair.ours.block(1) == before
    assert transfer.poll() is TransferState.PENDING
    assert pair.network.step() == 1
    assert transfer.poll() is TransferState.DONE
    assert pair.network.step() == 0


def test_a_block_is_read_when_it_is_copied_not_when_it_is_asked_for(pair):
    pair.connect().read([0], [4])
    pair.theirs.fill(seed=9)
    pair.network.settle()
    assert pair.ours.block(0) == pair.theirs.block(4)


def test_late_writes_land_after_a_cancel_until_the_fence(pair):
    transfer = pair.connect().read([0, 1, 2], [4, 5, 6])
    transfer.cancel()
    pair.ours.clear()
    assert pair.network.step() == 1
    assert pair.ours.block(0) == pair.theirs.block(4)
    assert not transfer.quiesced()
    pair.channel.fence("peer")
    assert transfer.quiesced()
    assert pair.network.settle() == 0
    assert not any(pair.ours.block(1))


def test_blocks_move_in_the_order_of_submission(pair):
    link = pair.connect()
    first, second = link.read([0, 1], [0, 1]), link.write([2], [2])
    assert pair.network.step(2) == 2
    assert first.poll() is TransferState.DONE
    assert second.poll() is TransferState.PENDING
    assert pair.network.settle() == 1
    assert pair.theirs.block(2) == pair.ours.block(2)


def test_a_failed_process_takes_its_links_down(pair):
    link = pair.connect()
    write = link.write([0], [0])
    pair.network.fail("them", "the cable was cut")
    assert write.poll() is TransferState.FAILED
    assert write.error() == "the cable was cut"
    assert write.quiesced()
    assert not write.settled()
    with pytest.raises(LinkDownError, match="cable"):
        link.read([0], [0])
    assert pair.connect().read([], []).poll() is TransferState.DONE


def test_a_killed_process_stays_dead_and_its_successor_is_another(pair):
    old = pair.peer.offer()
    pair.network.kill("them")
    successor = FakeChannel(pair.network, "them", pair.theirs.region)
    pair.network.resume("them")
    with pytest.raises(PeerUnreachableError):
        pair.channel.connect("peer", old, 1.0)
    link = pair.channel.connect("peer", successor.offer(), 1.0)
    transfer = link.read([0], [1])
    pair.peer.close()
    pair.network.settle()
    assert transfer.poll() is TransferState.DONE


def test_at_once_copies_inside_the_call():
    pair = Pair(Pace.AT_ONCE)
    assert pair.connect().read([0, 1], [1, 0]).poll() is TransferState.DONE
    assert pair.ours.blocks()[:2] == [pair.theirs.block(1), pair.theirs.block(0)]
