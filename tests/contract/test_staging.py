"""A staging ring over every channel: bytes through its slots, and peers that die under it."""

import time

import numpy as np
import pytest

from p2p.channel.base import TransferState
from p2p.channel.staging import (
    Direction,
    LinkStage,
    RingSize,
    SlotPhase,
    SlotRing,
    StagingBuffers,
    StagingPump,
    ThreadStage,
)
from tests.contract.blocks import Blocks, Shape
from tests.contract.transfers import TIMEOUT_S

pytestmark = pytest.mark.contract

NUM_SLOTS, NUM_PIECES = 3, 16
SHAPE = Shape(NUM_PIECES, (64 << 10,))
SIZE = RingSize(SHAPE.lengths[0], NUM_SLOTS)
REGION_SHAPE = Shape(NUM_SLOTS, SHAPE.lengths)


class StagedBlocks(Blocks):
    """The ring's memory where a harness expects blocks."""

    def __init__(self, buffers: StagingBuffers) -> None:
        self.buffers = buffers
        self.region = buffers.region


@pytest.fixture
def buffers() -> StagingBuffers:
    return StagingBuffers(SIZE)


def soon() -> float:
    return time.monotonic() + TIMEOUT_S


def run_ring(stages) -> None:
    ring = SlotRing(NUM_SLOTS)
    pump = StagingPump(ring)
    copy = pump.submit(stages, NUM_PIECES)
    assert pump.wait(copy, soon()) is TransferState.DONE, copy.problem
    assert ring.num_free == NUM_SLOTS


def test_a_peers_blocks_come_through_the_ring(harness, buffers):
    theirs = Blocks(SHAPE, seed=2)
    peer = harness.share_peer("staged", SHAPE, 2)
    link = harness.open(StagedBlocks(buffers)).connect("peer", peer.offer, TIMEOUT_S)
    got: list[bytes] = [b""] * NUM_PIECES

    def drain(piece: int, slot: int) -> None:
        got[piece] = buffers.view(slot).tobytes()

    stage = ThreadStage("drain", drain)
    run_ring((LinkStage(link, Direction.READ, lambda piece: piece), stage))
    stage.close()
    assert got == theirs.blocks()


def test_what_goes_through_the_ring_lands_at_the_peer(harness, buffers):
    peer = harness.start_peer("staged-target", SHAPE, 2)
    link = harness.open(StagedBlocks(buffers)).connect("peer", peer.offer, TIMEOUT_S)
    source = np.random.default_rng(5).integers(0, 256, (NUM_PIECES, SIZE.slot_bytes), np.uint8)
    fill = ThreadStage("fill", lambda piece, slot: np.copyto(buffers.view(slot), source[piece]))
    run_ring((fill, LinkStage(link, Direction.WRITE, lambda piece: NUM_PIECES - 1 - piece)))
    fill.close()
    got: list[bytes] = [b""] * NUM_PIECES

    def drain(piece: int, slot: int) -> None:
        got[piece] = buffers.view(slot).tobytes()

    check = ThreadStage("check", drain)
    run_ring((LinkStage(link, Direction.READ, lambda piece: NUM_PIECES - 1 - piece), check))
    check.close()
    assert got == [row.tobytes() for row in source]


def test_a_peer_that_dies_costs_the_copy_and_no_slot(killable, buffers):
    peer = killable.start_peer("staged-victim", SHAPE, 2)
    channel = killable.open(StagedBlocks(buffers))
    link = channel.connect("peer", peer.offer, TIMEOUT_S)
    ring = SlotRing(NUM_SLOTS)
    pump = StagingPump(ring)

    def drain(piece: int, slot: int) -> None:
        if piece == 2:
            peer.kill()

    stage = ThreadStage("drain", drain)
    copy = pump.submit((LinkStage(link, Direction.READ, lambda piece: piece), stage), NUM_PIECES)
    deadline = soon()
    state = pump.wait(copy, deadline)
    if state is TransferState.CANCELLED:  # a transport that notices nothing: the deadline ends it
        channel.fence("peer")
    assert state is not TransferState.DONE
    assert copy.num_done < NUM_PIECES
    assert pump.wait_quiet(soon())
    assert ring.count(SlotPhase.QUARANTINED) == 0
    assert ring.num_free == NUM_SLOTS
    stage.close()
