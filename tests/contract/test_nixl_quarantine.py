"""Quarantine over NIXL: agents of their own for peers that were given up."""

import os

import pytest

import p2p.channel.nixl_link
from p2p.agent.nixl_config import NixlConfig
from p2p.channel.base import Link, Transfer
from p2p.channel.nixl import NixlChannel
from p2p.channel.nixl_link import NixlLink
from p2p.errors import (
    LinkDownError,
)
from tests.contract.blocks import BIG, Blocks
from tests.contract.harness import Peer, ProcessHarness
from tests.contract.watch import (
    TIMEOUT_S,
    finish_well,
    num_open_files,
    num_threads,
    wait_drained,
    wait_quiesced,
)

pytestmark = pytest.mark.contract


class Quarantine:
    """A channel with links to a good peer and to a bad one, over TCP."""

    def __init__(self, harness: ProcessHarness) -> None:
        self.ours = Blocks(BIG, seed=1)
        channel = harness.open(self.ours)
        assert isinstance(channel, NixlChannel)
        self.channel = channel
        self.good = harness.share_peer("good", BIG, 3)
        self.bad = harness.share_peer("bad", BIG, 2)
        self.good_link = self.connect("good", self.good)
        self.bad_link = self.connect("bad", self.bad)

    def connect(self, name: str, peer: Peer) -> NixlLink:
        return self.channel.connect(name, peer.offer, TIMEOUT_S)

    def give_up(self, link: Link | None = None, count: int = 1) -> Transfer:
        """Gives transfers up with the bad peer, which is stopped; returns the last one."""
        transfers = [(link or self.bad_link).read(range(32), range(32)) for _ in range(count)]
        for transfer in transfers:
            transfer.cancel()
            assert not transfer.quiesced()
        return transfers[-1]

    def num_agents(self) -> int:
        return len(self.channel._agents)


@pytest.fixture(scope="module")
def tcp_processes():
    harness = ProcessHarness("tcp")
    yield harness
    harness.end()


@pytest.fixture
def quarantine(tcp_processes):
    quarantine = Quarantine(tcp_processes)
    yield quarantine
    quarantine.good.resume()
    quarantine.bad.resume()
    tcp_processes.end_test()


def test_fences_leak_neither_agents_nor_files_nor_threads(quarantine):
    counts = []
    for cycle in range(12):
        name = f"bad-{cycle}"  # a new name is no suspect: it starts on the shared agent
        link = quarantine.connect(name, quarantine.bad)
        quarantine.bad.stop()
        transfer = quarantine.give_up(link)
        finish_well(quarantine.good_link.read([40], [cycle]))
        quarantine.channel.fence(name)
        assert transfer.quiesced()
        quarantine.bad.resume()
        link = quarantine.connect(name, quarantine.bad)
        finish_well(link.read([41], [cycle]))
        link.close()
        assert quarantine.channel.quarantined() == 0
        finish_well(quarantine.good_link.read([42], [cycle]))
        if cycle in {1, 11}:
            wait_drained()
            counts.append(
                [quarantine.num_agents(), num_open_files(os.getpid()), num_threads(os.getpid())]
            )
    assert counts[-1][0] == 1
    assert counts[-1] == counts[0], counts


def test_an_agent_that_quiesces_by_itself_is_destroyed_with_its_last_user(quarantine):
    quarantine.bad.stop()
    transfer = quarantine.give_up()
    assert quarantine.num_agents() == 1, "the fresh agent comes with the first who needs it"
    finish_well(quarantine.good_link.read([40], [0]))
    assert quarantine.num_agents() == 2
    quarantine.bad.resume()
    wait_quiesced(transfer)
    finish_well(quarantine.bad_link.read([41], [1]))
    assert quarantine.num_agents() == 2
    quarantine.bad_link.close()
    assert quarantine.num_agents() == 1
    finish_well(quarantine.good_link.read([42], [2]))


def test_an_innocent_transfer_ends_on_the_agent_that_its_link_left(quarantine):
    quarantine.good.stop()
    older = quarantine.good_link.read(range(32, 48), range(32, 48))
    quarantine.bad.stop()
    transfer = quarantine.give_up()
    quarantine.good.resume()
    finish_well(quarantine.good_link.read([48], [48]))
    finish_well(older)
    assert not transfer.quiesced()
    assert quarantine.ours.blocks()[32:49] == Blocks(BIG, seed=3).blocks()[32:49]


def test_suspects_do_not_hurt_each_other_for_ever(quarantine):
    second = quarantine.connect("second", quarantine.good)
    quarantine.good.stop()
    quarantine.bad.stop()
    late = second.read(range(32, 48), range(32, 48))
    hung = quarantine.bad_link.read(range(32), range(32))
    late.cancel()
    hung.cancel()
    assert second.reading is quarantine.bad_link.reading
    quarantine.good.resume()
    wait_quiesced(late)
    finish_well(second.read([50], [50]))
    shared_with_nobody = second.read([51], [51])
    assert second.reading is not quarantine.bad_link.reading
    quarantine.channel.fence("bad")
    finish_well(shared_with_nobody)
    assert second.is_up()
    assert quarantine.good_link.is_up()
    finish_well(quarantine.good_link.read([52], [52]))


def test_a_silent_link_goes_down_instead_of_moving(quarantine, monkeypatch):
    quarantine.bad.stop()
    quarantine.give_up()
    assert quarantine.good_link.is_up()
    monkeypatch.setattr(p2p.channel.nixl_link, "_TRUST_S", 0.0)
    assert not quarantine.good_link.is_up()
    with pytest.raises(LinkDownError, match="dial again"):
        quarantine.good_link.read([40], [0])
    finish_well(quarantine.connect("good", quarantine.good).read([40], [0]))


def test_too_many_given_up_transfers_are_fenced_without_being_asked(quarantine):
    limit = NixlConfig().max_quarantined
    quarantine.bad.stop()
    transfer = quarantine.give_up(count=limit - 1)
    assert quarantine.channel.quarantined() == limit - 1
    last = quarantine.give_up()
    assert quarantine.channel.quarantined() == 0
    assert transfer.quiesced()
    assert last.quiesced()
    assert not quarantine.bad_link.is_up()
    finish_well(quarantine.good_link.read([40], [0]))
