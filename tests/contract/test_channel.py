"""One suite for every channel: what `p2p.channel.base` promises while peers live."""

from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest

from p2p.channel.base import ChannelOffer, TransferState
from p2p.errors import (
    ArgumentError,
    ClosedError,
    LinkDownError,
    PeerRefusedError,
    ProtocolError,
    TransferError,
)
from p2p.regions import Probe
from tests.contract.blocks import BIG, SMALL, STRIDED, TINY, Blocks, Shape
from tests.contract.transfers import TIMEOUT_S, connected, finish_well

pytestmark = pytest.mark.contract


# Copies


@pytest.mark.parametrize("shape", [SMALL, STRIDED], ids=["one-segment", "strided"])
def test_read_moves_one_block_and_nothing_else(harness, shape):
    ours, theirs, _, link = connected(harness, shape)
    before = ours.blocks()
    finish_well(link.read([3], [5]))
    assert ours.block(3) == theirs.block(5)
    assert [b for i, b in enumerate(ours.blocks()) if i != 3] == [
        b for i, b in enumerate(before) if i != 3
    ]
    assert ours.guards_are_intact()


@pytest.mark.parametrize("shape", [SMALL, STRIDED], ids=["one-segment", "strided"])
def test_read_keeps_the_order_of_blocks(harness, shape):
    ours, theirs, _, link = connected(harness, shape)
    local, remote = [7, 0, 1, 4, 5, 6], [2, 7, 0, 3, 4, 5]
    finish_well(link.read(local, remote))
    assert [ours.block(i) for i in local] == [theirs.block(i) for i in remote]
    assert ours.guards_are_intact()


def test_indexes_may_be_arrays(harness):
    ours, theirs, _, link = connected(harness, SMALL)
    every_second = np.arange(16, dtype=np.int32)[::2]
    finish_well(link.read(every_second, np.arange(3, 11, dtype=np.int32)))
    assert [ours.block(i) for i in range(0, 16, 2)] == theirs.blocks()[3:11]


@pytest.mark.parametrize("shape", [SMALL, STRIDED], ids=["one-segment", "strided"])
def test_write_lands_at_the_peer(harness, shape):
    ours, theirs = Blocks(shape, seed=3), Blocks(shape, seed=2)
    channel = harness.open(ours)
    peer = harness.start_peer("written", shape, 2)
    link = channel.connect("peer", peer.offer, TIMEOUT_S)
    finish_well(link.write([1, 2], [6, 4]))
    finish_well(link.read([5, 6, 7], [6, 4, 5]))
    assert [ours.block(i) for i in (5, 6, 7)] == [ours.block(1), ours.block(2), theirs.block(5)]
    assert ours.guards_are_intact()


def test_transfers_run_side_by_side(harness):
    ours, theirs, _, link = connected(harness, SMALL)
    transfers = [link.read([i, i + 1], [i + 1, i]) for i in range(0, 16, 2)]
    for transfer in reversed(transfers):
        finish_well(transfer)
    assert ours.blocks() == [theirs.block(i ^ 1) for i in range(16)]


def test_no_blocks_are_done_at_once(harness):
    _, _, _, link = connected(harness, SMALL)
    for transfer in (link.read([], []), link.write([], [])):
        assert transfer.poll() is TransferState.DONE
        assert transfer.quiesced()
        assert transfer.settled()


def test_ten_thousand_scattered_blocks(harness):
    ours, theirs, _, link = connected(harness, TINY)
    order = np.random.default_rng(4).permutation(TINY.num_blocks)[:10_000].astype(np.int32)
    finish_well(link.read(np.arange(10_000, dtype=np.int32), order))
    assert ours.blocks()[:10_000] == [theirs.block(int(i)) for i in order]


def test_every_big_block(harness):
    ours, theirs, _, link = connected(harness, BIG)
    finish_well(link.read(range(64), range(64)))
    assert np.array_equal(ours.all_bytes(), theirs.all_bytes())


def test_transport_is_reported(harness):
    _, _, _, link = connected(harness, SMALL)
    assert link.transport() == harness.transport


def test_what_a_dial_reads_is_compared(harness):
    channel = harness.open(Blocks(SMALL, seed=1))
    offer = harness.share_peer("shared", SMALL, 2).offer
    dialled = channel.dial("peer", offer, TIMEOUT_S)
    assert (dialled.peer, dialled.transport) == ("peer", harness.transport)
    assert 0 <= dialled.latency_s < TIMEOUT_S
    probe = Probe(offer.region.probe.base, bytes(16))
    region = msgspec.structs.replace(offer.region, probe=probe)
    other = ChannelOffer(channel=offer.channel, metadata=offer.metadata, region=region)
    with pytest.raises(TransferError, match="probe of 4096 bytes"):
        channel.dial("peer", other, TIMEOUT_S)
    assert channel.dial("peer", offer, TIMEOUT_S).peer == "peer"


# What does not fit


@pytest.mark.parametrize(
    ("local", "remote", "name"),
    [
        ([0], [16], "remote"),
        ([16], [0], "local"),
        ([-1], [0], "local"),
        ([0, 1], [0, -1], "remote"),
        ([0], [1 << 40], "remote"),
        ([0, 1], [0], "remote"),
        (list(range(16)) + [16] * 84, [0] * 100, "local"),
        (np.array([0.5]), [0], "local"),
        (np.array([[0]], np.int32), [0], "local"),
    ],
)
def test_wrong_indexes_are_refused_and_the_link_lives(harness, local, remote, name):
    ours, theirs, _, link = connected(harness, SMALL)
    before = ours.blocks()
    for submit in (link.read, link.write):
        with pytest.raises(ArgumentError) as caught:
            submit(local, remote)
        assert caught.value.name == name
    assert ours.blocks() == before
    finish_well(link.read([0], [1]))
    assert ours.block(0) == theirs.block(1)


@pytest.mark.parametrize(
    ("shape", "field"),
    [
        (Shape(16, (4096,)), "region.segments[0].length"),
        (Shape(16, (8192, 8192)), "region.segments"),
    ],
)
def test_a_region_that_does_not_fit_is_refused_by_its_field(harness, shape, field):
    channel = harness.open(Blocks(SMALL, seed=1))
    peer = harness.share_peer("other shape", shape, 2)
    with pytest.raises(PeerRefusedError) as caught:
        channel.connect("peer", peer.offer, TIMEOUT_S)
    assert caught.value.field == field
    assert caught.value.peer == "peer"


def test_another_channel_is_refused(harness):
    channel = harness.open(Blocks(SMALL, seed=1))
    offer = harness.share_peer("shared", SMALL, 2).offer
    foreign = ChannelOffer(channel="carrier-pigeon", metadata=offer.metadata, region=offer.region)
    with pytest.raises(PeerRefusedError) as caught:
        channel.connect("peer", foreign, TIMEOUT_S)
    assert caught.value.field == "channel"


@pytest.mark.parametrize("metadata", [b"", b"garbage", b"\xff" * 4000, b"nixl" * 30])
def test_metadata_that_is_none_is_a_protocol_error(harness, metadata):
    channel = harness.open(Blocks(SMALL, seed=1))
    offer = harness.share_peer("shared", SMALL, 2).offer
    bad = ChannelOffer(channel=offer.channel, metadata=metadata, region=offer.region)
    with pytest.raises(ProtocolError):
        channel.connect("peer", bad, TIMEOUT_S)
    finish_well(channel.connect("peer", offer, TIMEOUT_S).read([0], [0]))


# Life of links


def test_a_new_link_replaces_the_old_one(harness):
    ours, theirs, channel, first = connected(harness, SMALL)
    offer = harness.share_peer("shared", SMALL, 2).offer
    for _ in range(5):
        second = channel.connect("peer", offer, TIMEOUT_S)
        with pytest.raises(LinkDownError):
            first.read([0], [0])
        finish_well(second.read([2], [3]))
        first = second
    assert ours.block(2) == theirs.block(3)
    assert channel.quarantined() == 0


def test_two_names_for_one_peer_do_not_hurt_each_other(harness):
    ours, theirs, channel, first = connected(harness, SMALL)
    second = channel.connect("alias", harness.share_peer("shared", SMALL, 2).offer, TIMEOUT_S)
    second.close()
    finish_well(first.read([2], [3]))
    assert ours.block(2) == theirs.block(3)


def test_closed_links_and_channels_refuse(harness):
    _, _, channel, link = connected(harness, SMALL)
    link.close()
    link.close()
    with pytest.raises(LinkDownError):
        link.read([0], [0])
    channel.close()
    channel.close()
    with pytest.raises(ClosedError):
        channel.connect("peer", harness.share_peer("shared", SMALL, 2).offer, TIMEOUT_S)
    assert channel.quarantined() == 0


def test_an_offer_is_constant(harness):
    channel = harness.open(Blocks(SMALL, seed=1))
    assert channel.offer() == channel.offer()
    assert channel.offer().channel == harness.channel


# Several threads


def test_a_sibling_reads_on_another_thread_beside_us(harness):
    ours, theirs, channel, link = connected(harness, SMALL)
    dialled = channel.dial("peer", harness.share_peer("shared", SMALL, 2).offer, TIMEOUT_S)
    sibling = channel.sibling()

    def read() -> None:
        other = sibling.attach(dialled)
        for _ in range(20):
            finish_well(other.read([2], [3]))
        sibling.close()

    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(read)
        for _ in range(20):
            finish_well(link.read([4], [5]))
        reading.result()
    assert (ours.block(2), ours.block(4)) == (theirs.block(3), theirs.block(5))
    finish_well(link.read([6], [7]))  # the sibling's end leaves us alone
    assert link.is_up()


def test_dialling_leaves_links_alone(harness):
    _, _, channel, link = connected(harness, SMALL)
    dialled = channel.dial("peer", harness.share_peer("shared", SMALL, 2).offer, TIMEOUT_S)
    finish_well(link.read([0], [0]))
    again = channel.attach(dialled)
    assert again.is_up()
    assert not link.is_up()
