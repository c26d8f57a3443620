"""Waiting for transfers to end, and a link to read from."""

import time

from p2p.channel.base import Channel, Link, Transfer, TransferState
from tests.contract.blocks import Blocks, Shape
from tests.contract.harness import Harness

TIMEOUT_S = 10.0


def finish(transfer: Transfer) -> TransferState:
    deadline = time.monotonic() + TIMEOUT_S
    while transfer.poll() is TransferState.PENDING:
        assert time.monotonic() < deadline, "the transfer does not end"
    return transfer.poll()


def finish_well(transfer: Transfer) -> None:
    assert finish(transfer) is TransferState.DONE, transfer.error()
    assert transfer.error() == ""
    assert transfer.quiesced()
    assert transfer.settled()


def wait_quiesced(transfer: Transfer) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not transfer.quiesced():
        assert time.monotonic() < deadline, "the transfer does not quiesce"


def connected(harness: Harness, shape: Shape) -> tuple[Blocks, Blocks, Channel, Link]:
    """Returns our blocks, a copy of the peer's, and a link to a peer that tests share."""
    ours, theirs = Blocks(shape, seed=1), Blocks(shape, seed=2)
    peer = harness.share_peer("shared", shape, 2)
    channel = harness.open(ours)
    return ours, theirs, channel, channel.connect("peer", peer.offer, TIMEOUT_S)
