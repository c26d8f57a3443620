"""One suite for every channel: peers that die or hang, transfers given up, fences."""

import time

import pytest

from p2p.channel.base import Channel, Link, Transfer, TransferState
from p2p.errors import (
    LinkDownError,
    PeerUnreachableError,
)
from tests.contract.blocks import BIG, SMALL, Blocks
from tests.contract.harness import Harness
from tests.contract.transfers import TIMEOUT_S, finish, finish_well, wait_quiesced

pytestmark = pytest.mark.contract


# Death


def test_killed_before_connect_restarted_and_connected_anew(killable):
    ours = Blocks(SMALL, seed=1)
    channel = killable.open(ours)
    peer = killable.start_peer("mortal", SMALL, 2)
    link = channel.connect("peer", peer.offer, TIMEOUT_S)
    finish_well(link.read([0], [0]))
    peer.kill()
    with pytest.raises(LinkDownError):
        submit_until_down(link)
    with pytest.raises(LinkDownError):
        link.write([1], [1])
    with pytest.raises(PeerUnreachableError):
        channel.connect("peer", peer.offer, TIMEOUT_S)
    again = killable.start_peer("mortal", SMALL, 5)
    assert again.offer.metadata != peer.offer.metadata
    finish_well(channel.connect("peer", again.offer, TIMEOUT_S).read([1], [2]))
    assert ours.block(1) == Blocks(SMALL, seed=5).block(2)
    assert channel.quarantined() == 0


def test_a_closed_peer_cannot_be_connected(harness):
    channel = harness.open(Blocks(SMALL, seed=1))
    peer = harness.start_peer("closing", SMALL, 2)
    link = channel.connect("peer", peer.offer, TIMEOUT_S)
    peer.kill()
    with pytest.raises(PeerUnreachableError):
        channel.connect("peer", peer.offer, TIMEOUT_S)
    link.close()
    assert channel.quarantined() == 0


def submit_until_down(link: Link) -> None:
    """Reads until the link says that it is down; a transfer that was submitted must fail."""
    transfer = link.read([1], [1])
    assert finish(transfer) is TransferState.FAILED
    assert transfer.error()
    assert transfer.quiesced()
    link.read([1], [1])


def test_killed_during_a_transfer(hanging):
    channel = hanging.open(Blocks(BIG, seed=1))
    peer = hanging.start_peer("mortal", BIG, 2)
    link = channel.connect("peer", peer.offer, TIMEOUT_S)
    peer.stop()
    transfers = [link.read(range(32), range(32)), link.read(range(32, 64), range(32, 64))]
    assert transfers[0].poll() is TransferState.PENDING
    peer.kill()
    for transfer in transfers:
        assert finish(transfer) is TransferState.FAILED
        assert transfer.error()
        assert transfer.quiesced()
    with pytest.raises(LinkDownError):
        link.read([0], [0])
    assert channel.quarantined() == 0


# Hanging, giving up, fencing


def given_up(harness: Harness) -> tuple[Blocks, Channel, Link, Transfer]:
    """Returns a transfer given up in flight, with a peer that is stopped."""
    ours = Blocks(BIG, seed=1)
    channel = harness.open(ours)
    peer = harness.share_peer("hanging", BIG, 2)
    link = channel.connect("peer", peer.offer, TIMEOUT_S)
    peer.stop()
    transfer = link.read(range(64), range(64))
    assert transfer.poll() is TransferState.PENDING
    transfer.cancel()
    assert transfer.poll() is TransferState.CANCELLED
    assert not transfer.quiesced()
    assert not transfer.settled()
    assert channel.quarantined() == 1
    return ours, channel, link, transfer


def test_no_byte_lands_after_a_fence(hanging):
    ours, channel, _, transfer = given_up(hanging)
    peer = hanging.share_peer("hanging", BIG, 2)
    channel.fence("peer")
    assert transfer.quiesced()
    assert transfer.poll() is TransferState.CANCELLED
    assert channel.quarantined() == 0
    ours.clear()
    peer.resume()
    link = channel.connect("peer", peer.offer, TIMEOUT_S)
    finish_well(link.read([0], [0]))
    assert not ours.all_bytes()[BIG.lengths[0] :].any()


def test_a_given_up_transfer_quiesces_when_its_peer_goes_on(hanging):
    ours, channel, link, transfer = given_up(hanging)
    ours.clear()
    hanging.share_peer("hanging", BIG, 2).resume()
    wait_quiesced(transfer)
    assert transfer.poll() is TransferState.CANCELLED
    assert transfer.settled()
    assert channel.quarantined() == 0
    theirs, empty = Blocks(BIG, seed=2), bytes(BIG.lengths[0])
    landed = [ours.block(i) for i in range(64) if ours.block(i) != empty]
    assert landed, "late writes are why it was kept"
    assert all(ours.block(i) in {theirs.block(i), empty} for i in range(64))
    finish_well(link.read([0], [1]))


def test_closing_a_link_gives_up_what_is_in_flight(hanging):
    ours = Blocks(BIG, seed=1)
    channel = hanging.open(ours)
    peer = hanging.share_peer("hanging", BIG, 2)
    link = channel.connect("peer", peer.offer, TIMEOUT_S)
    peer.stop()
    transfer = link.read(range(64), range(64))
    link.close()
    assert transfer.poll() is TransferState.CANCELLED
    assert channel.quarantined() == (0 if hanging.closing_quiesces else 1)
    peer.resume()
    second = channel.connect("peer", peer.offer, TIMEOUT_S)
    wait_quiesced(transfer)
    assert channel.quarantined() == 0
    finish_well(second.read([0], [1]))


def test_closing_the_channel_quiesces_everything(hanging):
    ours, channel, link, transfer = given_up(hanging)
    channel.close()
    assert transfer.quiesced()
    ours.clear()
    hanging.share_peer("hanging", BIG, 2).resume()
    with pytest.raises(LinkDownError):
        link.read([0], [0])
    assert not ours.all_bytes().any()


def test_a_fenced_write_does_not_settle(hanging):
    channel = hanging.open(Blocks(BIG, seed=1))
    peer = hanging.start_peer("written", BIG, 2)
    link = channel.connect("peer", peer.offer, TIMEOUT_S)
    peer.stop()
    write = link.write(range(64), range(64))
    assert write.poll() is TransferState.PENDING
    write.cancel()
    channel.fence("peer")
    assert write.quiesced()
    assert not write.settled()


def test_a_stopped_peer_cannot_be_connected(hanging):
    channel = hanging.open(Blocks(BIG, seed=1))
    peer = hanging.share_peer("hanging", BIG, 2)
    peer.stop()
    before = time.monotonic()
    try:
        with pytest.raises(PeerUnreachableError):
            channel.connect("peer", peer.offer, 0.3)
    finally:
        peer.resume()
    assert time.monotonic() - before < 2.0


def test_a_peer_that_hung_once_does_not_hurt_others_again(hanging):
    ours, channel, _, transfer = given_up(hanging)
    bad = hanging.share_peer("hanging", BIG, 2)
    channel.fence("peer")
    bad.resume()
    suspect = channel.connect("peer", bad.offer, TIMEOUT_S)
    good = channel.connect("good", hanging.share_peer("good", BIG, 3).offer, TIMEOUT_S)
    bad.stop()
    transfer = suspect.read(range(32), range(32))
    transfer.cancel()
    assert channel.quarantined() == 1
    channel.fence("peer")
    bad.resume()
    assert transfer.quiesced()
    finish_well(good.read([40], [41]))
    assert ours.block(40) == Blocks(BIG, seed=3).block(41)


def test_a_peer_survives_that_its_reads_were_fenced_while_it_stood_still(hanging):
    ours = Blocks(BIG, seed=1)
    channel = hanging.open(ours)
    peer = hanging.share_peer("hanging", BIG, 2)
    for _ in range(3):
        link = channel.connect("peer", peer.offer, TIMEOUT_S)
        for block in range(2):
            finish_well(link.read([block], [block]))
        peer.stop()
        transfer = link.read(range(32), range(32))
        transfer.cancel()
        channel.fence("peer")
        assert transfer.quiesced()
        ours.clear()
        peer.resume()
        time.sleep(0.3)
        assert not ours.all_bytes().any()
    finish_well(channel.connect("peer", peer.offer, TIMEOUT_S).read([40], [41]))
    assert ours.block(40) == Blocks(BIG, seed=2).block(41)


def test_a_fence_spares_the_transfers_of_others(hanging):
    ours, theirs = Blocks(BIG, seed=1), Blocks(BIG, seed=3)
    channel = hanging.open(ours)
    bad, good = hanging.share_peer("hanging", BIG, 2), hanging.share_peer("good", BIG, 3)
    link = channel.connect("good", good.offer, TIMEOUT_S)
    finish_well(link.read([32], [0]))
    suspect = channel.connect("peer", bad.offer, TIMEOUT_S)
    bad.stop()
    hung = suspect.read(range(32), range(32))
    older = link.read(range(33, 49), range(1, 17))
    hung.cancel()
    younger = link.read(range(49, 57), range(17, 25))
    assert link.is_up()
    finish_well(older)
    finish_well(younger)
    assert not hung.quiesced()
    during = link.read(range(57, 64), range(25, 32))
    channel.fence("peer")
    assert hung.quiesced()
    assert not suspect.is_up()
    assert channel.quarantined() == 0
    finish_well(during)
    assert ours.blocks()[32:] == theirs.blocks()[:32]
    ours.clear()
    bad.resume()
    finish_well(link.read([63], [40]))
    finish_well(channel.connect("peer", bad.offer, TIMEOUT_S).read([62], [41]))
    assert link.is_up()
    assert ours.block(63) == theirs.block(40)
    assert ours.block(62) == Blocks(BIG, seed=2).block(41)
    assert not ours.all_bytes()[: 62 * BIG.lengths[0]].any()


def test_a_link_outlives_a_transfer_that_went_with_the_fence_of_another(hanging):
    ours = Blocks(BIG, seed=1)
    channel = hanging.open(ours)
    bad, good = hanging.share_peer("hanging", BIG, 2), hanging.share_peer("good", BIG, 3)
    link = channel.connect("good", good.offer, TIMEOUT_S)
    suspect = channel.connect("peer", bad.offer, TIMEOUT_S)
    bad.stop()
    good.stop()
    try:
        older = link.read(range(16), range(16))
        suspect.read(range(16, 32), range(16, 32)).cancel()
        younger = link.read(range(32, 48), range(32, 48))
        before = time.monotonic()
        channel.fence("peer")
        assert time.monotonic() - before < 1.0
        assert older.poll() in (TransferState.PENDING, TransferState.FAILED)
        assert younger.poll() is TransferState.PENDING
        assert link.is_up()
    finally:
        bad.resume()
        good.resume()
    finish_well(younger)
    finish_well(link.read([48], [0]))
    assert ours.blocks()[32:48] == Blocks(BIG, seed=3).blocks()[32:48]
