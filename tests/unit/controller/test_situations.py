"""Situations in which a directory of KV cache goes wrong easily, each with the right answer."""

import msgspec

from p2p.wire.messages import RankEndpoint, Want
from tests.unit.controller.instances import DEVICE, HOST, LAYOUT, Controller, Instance, keys


def test_every_rank_is_told_its_own_counterpart():
    controller = Controller()
    two_ranks = msgspec.structs.replace(LAYOUT, tensor_parallel=2)
    endpoints = tuple(
        RankEndpoint(rank=rank, address=f"tcp://10.0.0.{rank}:7700", metadata_version=3)
        for rank in range(2)
    )
    controller.joined("p", 1, layout=two_ranks, ranks=endpoints)
    controller.joined("reader", layout=two_ranks)
    for rank in range(2):
        (holder,) = controller.locate(1, asker="reader", rank=rank).holders
        assert holder.ranks == (endpoints[rank],)
    (holder,) = controller.locate(1, asker="reader").holders
    assert holder.ranks == ()


def test_the_longest_prefix_wins_not_the_first_holder_of_the_first_chunk():
    controller = Controller()
    controller.joined("short", 1)
    controller.joined("long", *range(1, 101))
    runs = controller.runs(*range(1, 101))
    assert runs == [(0, 1, ["long", "short"]), (1, 99, ["long"])]


def test_a_chain_is_covered_by_two_instances():
    controller = Controller()
    controller.joined("p", *range(1, 51))
    controller.joined("q", *range(51, 101))
    assert controller.runs(*range(1, 101)) == [(0, 50, ["p"]), (50, 50, ["q"])]


def test_a_chain_is_covered_by_two_tiers_of_one_instance():
    controller = Controller()
    p = controller.joined("p")
    controller.send(p.change(*((DEVICE, number) for number in range(1, 51))))
    controller.send(p.change(*((HOST, number) for number in range(51, 101))))
    assert controller.runs(*range(1, 101)) == [(0, 50, ["p"]), (50, 50, ["p"])]
    assert [run.tiers for run in controller.locate(*range(1, 101)).runs] == [b"\1", b"\2"]


def test_changes_during_a_snapshot_are_not_lost():
    controller = Controller()
    p = controller.joined("p", 1, 2)
    start = p.last_seq
    controller.send(p.page(1, 0, [1], last=False, start_seq=start))
    controller.send(p.evict(1))
    controller.send(p.admit(9))
    controller.send(p.page(1, 1, [2], last=True, start_seq=start))
    assert controller.core.entries_of("p").keys() == {("", key) for key in keys(2, 9)}


def test_a_snapshot_that_died_does_not_block_the_next_one():
    controller = Controller()
    p = controller.joined("p", 1)
    controller.send(p.page(1, 0, [7], last=False, start_seq=1))
    status = controller.status_after(p.page(2, 0, [1], last=True, start_seq=1))
    assert (status.sync, status.synced_page, status.want) == (2, 0, Want.NOTHING)
    assert controller.is_equal(p)


def test_a_jump_in_the_numbers_is_repaired():
    controller = Controller()
    p = controller.joined("p")
    lost = p.admit(*range(1, 50))
    status = controller.status_after(p.admit(50))
    assert (status.want, status.acked_seq) == (Want.REPLAY, 0)
    status = controller.status_after(lost)
    assert (status.want, status.acked_seq) == (Want.NOTHING, 50)
    assert controller.is_equal(p)


def test_an_instance_that_has_been_silent_is_not_returned():
    controller = Controller()
    controller.joined("p", 1)
    controller.now_s += 1e9
    assert controller.runs(1) == []


def test_an_instance_that_comes_back_elsewhere_has_its_new_address():
    controller = Controller()
    controller.joined("p", 1, address="tcp://10.0.0.1:1000")
    controller.joined("p", 1, incarnation=2, address="tcp://10.0.0.2:1000")
    assert [holder.address for holder in controller.locate(1).holders] == ["tcp://10.0.0.2:1000"]


def test_nothing_is_wanted_any_more_after_a_repair():
    controller = Controller()
    p = controller.joined("p")
    lost = p.admit(1)
    assert controller.status_after(p.admit(2)).want is Want.REPLAY
    controller.send(lost)
    for _ in range(3):
        assert controller.status_after(p.heartbeat()).want is Want.NOTHING


def test_a_restarted_controller_learns_everything_again():
    first = Controller(epoch=1)
    p = first.joined("p", 1, 2, 3)
    second = Controller(epoch=2)
    assert second.status_after(p.heartbeat()).want is Want.REGISTER
    second.join(p)
    status = second.status_after(p.page(1, 0, [1, 2, 3], last=True, start_seq=3))
    assert status.acked_seq == 3
    second.send(p.admit(4))
    assert second.is_equal(p)
    assert second.status_after(p.heartbeat()).want is Want.NOTHING


def test_the_same_name_twice_is_fenced_not_mixed():
    controller = Controller()
    first = controller.joined("p", 1)
    second = controller.joined("p", 2, incarnation=2)
    controller.send(first.admit(3))
    assert controller.is_equal(second)
    assert controller.runs(3) == []
    assert isinstance(first, Instance)
