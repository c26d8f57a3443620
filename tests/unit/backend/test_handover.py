"""Giving everything to peers before an instance leaves."""

from p2p.backend.giving import Giving
from p2p.backend.handover import Chain, Handover, chain_of, hottest_chains
from p2p.keys import split_keys
from p2p.wire.messages import (
    LeaseBusy,
    LeaseGranted,
    PeerList,
    Refusal,
    RefusalCode,
    TakenOver,
    TakeOver,
)
from tests.unit.backend.builders import (
    NAMESPACE,
    SENDER,
    ask,
    hello,
    holder,
    identity,
    instance_core,
    lease_request,
    prompt,
    put,
)

ONE, TWO, THREE = (prompt(4, salt=salt) for salt in ("1", "2", "3"))


def _handover(chains, peers="xy", deadline_s=10.0):
    named = [holder(name) for name in peers]
    chains = [Chain(tuple(keys), "") for keys in chains]
    return Handover(identity("a"), chains, named, deadline_s)


def _taken(count, *, is_full=False):
    return TakenOver(num_chunks=count, is_full=is_full)


def _summary(offers):
    return [(offer.holder.instance, list(offer.chain.keys)) for offer in offers]


def test_chains_are_offered_hottest_first_and_evenly():
    handover = _handover([ONE, TWO, THREE])
    assert _summary(handover.due(0.0)) == [("x", ONE), ("y", TWO), ("x", THREE)]
    assert handover.num_chunks == 12


def test_prompts_with_the_same_beginning_go_to_the_same_peer():
    handover = _handover([ONE, ONE[:2], TWO])
    assert _summary(handover.due(0.0)) == [("x", ONE), ("x", ONE[:2]), ("y", TWO)]


def test_it_is_over_once_everything_is_taken():
    handover = _handover([ONE, TWO])
    for offer in handover.due(0.0):
        assert not handover.is_over(0.0)
        handover.on_answer(offer, _taken(4))
    assert handover.is_over(0.1)
    assert (handover.num_kept, handover.num_peers) == (8, 2)


def test_what_a_full_peer_leaves_is_offered_to_the_next():
    handover = _handover([ONE])
    (first,) = handover.due(0.0)
    handover.on_answer(first, _taken(1, is_full=True))
    (second,) = handover.due(0.1)
    assert _summary([second]) == [("y", ONE)]
    handover.on_answer(second, Refusal(code=RefusalCode.CLOSING))
    assert handover.is_over(0.2)
    assert handover.num_kept == 1


def test_what_cannot_be_read_ends_there_and_the_peer_is_offered_more():
    handover = _handover([ONE, TWO, THREE], peers="x")
    first, second = handover.due(0.0)
    handover.on_answer(first, _taken(2))
    assert _summary(handover.due(0.1)) == [("x", THREE)]
    handover.on_answer(second, _taken(4))
    assert handover.num_kept == 6


def test_who_leaves_takes_nothing_over():
    desk = _desk("x")
    put(desk.core, ONE)
    handover = desk.giving.drain(10.0, 0.0)
    (offer,) = handover._open
    plea = handover.message(offer, NAMESPACE.id, 0.0)
    (answer,) = desk.core.handle(SENDER, plea, 0.0)
    assert answer.message == Refusal(code=RefusalCode.CLOSING)


def test_who_does_not_answer_is_not_waited_for_longer_than_its_offer():
    handover = _handover([ONE], deadline_s=60.0)
    (first,) = handover.due(0.0)
    assert handover.next_deadline_s() == first.deadline_s + 0.5
    assert handover.due(first.deadline_s) == []
    (second,) = handover.due(first.deadline_s + 0.5)
    assert second.holder.instance == "y"


def test_nothing_is_offered_after_the_deadline():
    handover = _handover([ONE, TWO, THREE, prompt(1, salt="4"), prompt(1, salt="5")])
    for offer in handover.due(0.0):
        handover.on_answer(offer, _taken(4))
    assert handover.due(10.0) == []
    assert handover.is_over(10.0)


def test_the_last_used_prompt_is_the_hottest():
    core = instance_core("a")
    for keys in (ONE, TWO, THREE):
        put(core, keys)
    for entry in core.index.prefix(ONE, ""):
        core.index.touch(entry)
    assert [chain.keys[0] for chain in hottest_chains(core.index)] == [ONE[0], THREE[0], TWO[0]]


def test_of_a_prompt_whose_beginning_is_elsewhere_the_rest_is_given():
    core = instance_core("a")
    put(core, ONE)
    entries = core.index.prefix(ONE, "")
    core.drop(entries[1])
    assert {chain.keys for chain in hottest_chains(core.index)} == {(ONE[0],), tuple(ONE[2:])}


def test_a_chain_belongs_to_who_may_read_all_of_it():
    core = instance_core("a")
    put(core, ONE[:2])
    put(core, ONE[:4], "t")
    last = core.index.prefix(ONE, "t")[3]
    assert chain_of(core.index, last) == Chain(tuple(ONE), "t")
    put(core, TWO, "u")
    last = core.index.prefix(TWO, "u")[3]
    assert chain_of(core.index, last) == Chain(tuple(TWO), "u")


class _Desk:
    """Takes what is asked."""

    def __init__(self, core):
        self.asked = []
        self.core = core
        self.giving = Giving(core, self._ask, lambda peer, now_s: peer.instance != "down")

    def _ask(self, peer, message):
        self.asked.append((peer.instance, message))
        return len(self.asked)


def _desk(*peers):
    core = instance_core("a")
    members = tuple(holder(name) for name in ("a", *peers))
    core.membership.roster.take(PeerList(epoch=1, version=1, peers=members), 0.0)
    return _Desk(core)


def test_a_drain_asks_usable_peers_and_counts_what_they_took():
    desk = _desk("down", "x")
    put(desk.core, ONE)
    handover = desk.giving.drain(10.0, 0.0)
    ((name, message),) = desk.asked
    assert (name, type(message)) == ("x", TakeOver)
    assert message.namespace == NAMESPACE.id
    assert split_keys(message.keys, message.key_bytes) == ONE
    assert not desk.giving.is_idle
    assert desk.giving.on_answer(1, _taken(4), 0.1)
    assert handover.num_kept == 4
    assert desk.giving.is_idle
    assert not desk.giving.on_answer(1, _taken(4), 0.1)


def test_readers_are_sent_to_who_took_over():
    desk = _desk("x")
    core = desk.core
    put(core, ONE)
    ask(core, hello("r"))
    ask(core, hello("x"))
    desk.giving.drain(10.0, 0.0)
    assert isinstance(ask(core, lease_request(ONE, instance="x")), LeaseGranted)
    assert isinstance(ask(core, lease_request(ONE[:1])), LeaseGranted)
    core.tick(1.5)
    desk.giving.on_answer(1, _taken(4), 0.1)
    busy = ask(core, lease_request(ONE[:1]), 1.6)
    assert isinstance(busy, LeaseBusy)
    assert busy.alternates == ("x",)


def test_a_hot_chunk_is_given_to_one_peer_that_has_not_read_it():
    desk = _desk("r0", "x")
    core = desk.core
    put(core, ONE)
    core.index.prefix(ONE, "")[-1].readers = ("r0",)
    core.hot.copies.append(Chain(tuple(ONE), ""))
    desk.giving.on_time(0.0)
    assert [name for name, _ in desk.asked] == ["x"]
    assert core.counters["copies_asked_for"] == 1
