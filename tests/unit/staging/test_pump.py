"""Copies through a ring: order, failures, quarantine, and sharing. Stages are held by the test."""

import pytest

from p2p.channel.base import TransferState
from p2p.channel.staging import SlotPhase, SlotRing, StagingPump
from p2p.errors import ArgumentError, LinkDownError
from tests.unit.staging.staged import HeldStage


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 0.001
        return self.now_s


def pump_of(num_slots: int) -> StagingPump:
    return StagingPump(SlotRing(num_slots), Clock())


def test_a_piece_waits_for_a_slot_and_others_overlap():
    pump = pump_of(2)
    fill, send = HeldStage(), HeldStage()
    copy = pump.submit((fill, send), 3)
    pump.progress()
    assert sorted(fill.works) == [0, 1]  # back-pressure: two slots, not a third
    fill.end(0)
    pump.progress()
    assert sorted(send.works) == [0]
    assert pump.ring.count(SlotPhase.IN_FLIGHT) == 1
    send.end(0)
    pump.progress()
    assert sorted(fill.works) == [0, 1, 2]
    assert fill.slots[2] == fill.slots[0] == send.slots[0]
    for piece in (1, 2):
        fill.end(piece)
        pump.progress()
        send.end(piece)
    assert pump.wait(copy, 10) is TransferState.DONE
    assert (copy.num_done, pump.num_copies, pump.ring.num_free) == (3, 0, 2)


def test_two_copies_take_turns():
    pump = pump_of(1)
    stages = [(HeldStage(), HeldStage()) for _ in range(2)]
    for pair in stages:
        pump.submit(pair, 3)
    begun: list[int] = []
    for _ in range(6):
        pump.progress()
        (number,) = [n for n, (fill, _) in enumerate(stages) if len(fill.works) > begun.count(n)]
        fill, send = stages[number]
        piece = begun.count(number)
        begun.append(number)
        fill.end(piece)
        pump.progress()
        send.end(piece)
        pump.progress()
    assert begun == [0, 0, 1, 0, 1, 1]  # the first asked for its second before the other came
    assert pump.num_copies == 0


def test_a_failed_send_keeps_its_slot_until_the_transport_confirms():
    pump = pump_of(2)
    fill, send = HeldStage(), HeldStage()
    copy = pump.submit((fill, send), 4)
    pump.progress()
    fill.end(0)
    pump.progress()
    send.fail(0, "the peer is gone")
    pump.progress()
    assert (copy.state, copy.problem) == (TransferState.FAILED, "the peer is gone")
    assert fill.works[1].is_cancelled
    assert pump.ring.count(SlotPhase.QUARANTINED) == 2
    assert pump.ring.num_waiting == 0
    assert not pump.wait_quiet(0.1)
    other = pump.submit((HeldStage(), HeldStage()), 1)  # no slot for it
    assert pump.ring.num_waiting == 1
    send.works[0].is_quiet = True
    pump.progress()
    assert pump.ring.count(SlotPhase.QUARANTINED) == 1
    assert pump.ring.count(SlotPhase.FILLING) == 1
    fill.works[1].is_quiet = True
    other.cancel()
    assert not copy.is_quiet
    pump.progress()
    assert copy.is_quiet


def test_what_cannot_be_sent_frees_its_slot_at_once():
    pump = pump_of(1)
    fill, send = HeldStage(), HeldStage(refusal=LinkDownError("peer", "is gone"))
    copy = pump.submit((fill, send), 2)
    pump.progress()
    fill.end(0)
    pump.progress()
    assert copy.state is TransferState.FAILED
    assert "is gone" in copy.problem
    assert pump.ring.num_free == 1
    assert pump.num_copies == 0 or pump.wait_quiet(1)


@pytest.mark.parametrize("refusing", [0, 2])
def test_a_stage_that_refuses_fails_the_copy(refusing):
    pump = pump_of(1)
    stages = [HeldStage(), HeldStage(), HeldStage()]
    stages[refusing].refusal = LinkDownError("peer", "is gone")
    copy = pump.submit(stages, 1)
    for stage in stages[:refusing]:
        pump.progress()
        stage.end(0)
    assert pump.wait(copy, 10) is TransferState.FAILED
    assert pump.wait_quiet(10)
    assert pump.ring.num_free == 1


def test_a_deadline_gives_a_copy_up():
    pump = pump_of(2)
    fill, send = HeldStage(), HeldStage()
    copy = pump.submit((fill, send), 2)
    assert pump.wait(copy, 0.05) is TransferState.CANCELLED
    assert fill.works[0].is_cancelled
    assert pump.ring.count(SlotPhase.QUARANTINED) == 2
    for work in fill.works.values():
        work.is_quiet = True
    assert pump.wait_quiet(1)
    copy.cancel()
    assert copy.state is TransferState.CANCELLED


def test_what_cannot_be_is_refused():
    with pytest.raises(ArgumentError, match="stages = 1"):
        pump_of(1).submit((HeldStage(),), 1)
    with pytest.raises(ArgumentError, match="num_pieces = 0"):
        pump_of(1).submit((HeldStage(), HeldStage()), 0)
